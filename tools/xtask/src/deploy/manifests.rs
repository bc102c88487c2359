//! The manifests for Kubernetes.

use super::{DRAIN_S_MIN, ROLES};
use serde_json::{Map, Value, json};

/// A manifest's file and contents.
type Document = (String, Value);

/// Everything that does not fit.
pub(super) fn errors(documents: &[Document]) -> Vec<String> {
    let mut errors = Vec::new();
    let pods: Vec<&Value> = documents.iter().filter(|(_, d)| is_workload(d)).map(|(_, d)| d).collect();
    for (file, document) in documents {
        let kind = text(document, "/kind");
        let name = text(document, "/metadata/name");
        let found = match kind {
            "Deployment" | "StatefulSet" => workload(document, documents),
            "Service" => service(document, &pods),
            "PodDisruptionBudget" => selects(&document["spec"]["selector"]["matchLabels"], &pods),
            "HorizontalPodAutoscaler" => autoscaler(document, &pods),
            "NetworkPolicy" => policy(document, &pods),
            "Secret" | "Namespace" => Vec::new(),
            other => vec![format!("`{other}` is a kind that this check does not know")],
        };
        let unnamed = name.is_empty() || text(document, "/apiVersion").is_empty();
        let unnamed = unnamed.then(|| "apiVersion or metadata.name is missing".to_owned());
        errors
            .extend(unnamed.into_iter().chain(found).map(|error| format!("{file}: {kind} {name}: {error}")));
    }
    for role in ROLES {
        if !pods.iter().any(|pod| text(pod, "/metadata/name") == role) {
            errors.push(format!("no manifest runs the role {role}"));
        }
    }
    errors
}

/// Manifests that `kubectl apply -k` would not apply, and ones that are not there.
pub(super) fn unlisted(kustomization: &Value, files: &[String]) -> Vec<String> {
    let listed = list(&kustomization["resources"]);
    let is_listed = |file: &String| listed.iter().any(|entry| entry.as_str() == Some(file.as_str()));
    let wanted = files.iter().filter(|f| *f != "kustomization.yaml" && !f.ends_with(".example.yaml"));
    let forgotten =
        wanted.filter(|file| !is_listed(file)).map(|file| format!("kustomization.yaml does not list {file}"));
    let gone = listed.iter().filter_map(Value::as_str).filter(|entry| files.iter().all(|file| file != entry));
    forgotten
        .chain(gone.map(|entry| format!("kustomization.yaml lists {entry}, which is not there")))
        .collect()
}

fn is_workload(document: &Value) -> bool {
    matches!(text(document, "/kind"), "Deployment" | "StatefulSet")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn labels(pod: &Value) -> Map<String, Value> {
    map(&pod["spec"]["template"]["metadata"]["labels"])
}

/// Pods that a selector means; an empty one means all of them.
fn selected<'a>(selector: &Value, pods: &[&'a Value]) -> Vec<&'a Value> {
    let wanted = map(selector);
    let fits = |pod: &&&Value| wanted.iter().all(|(key, value)| labels(pod).get(key) == Some(value));
    pods.iter().filter(fits).copied().collect()
}

fn selects(selector: &Value, pods: &[&Value]) -> Vec<String> {
    let none = map(selector).is_empty() || selected(selector, pods).is_empty();
    if none { vec![format!("its selector {selector} means no pod")] } else { Vec::new() }
}

/// Names of the ports of a pod.
fn ports(pod: &Value) -> Vec<&str> {
    let containers = list(&pod["spec"]["template"]["spec"]["containers"]);
    containers.iter().flat_map(|c| list(&c["ports"])).map(|port| text(port, "/name")).collect()
}

fn service(document: &Value, pods: &[&Value]) -> Vec<String> {
    let spec = &document["spec"];
    let mut errors = selects(&spec["selector"], pods);
    for port in list(&spec["ports"]) {
        let target = text(port, "/targetPort");
        for pod in selected(&spec["selector"], pods).iter().filter(|pod| !ports(pod).contains(&target)) {
            errors.push(format!("targetPort `{target}` is no port of {}", text(pod, "/metadata/name")));
        }
    }
    errors
}

fn autoscaler(document: &Value, pods: &[&Value]) -> Vec<String> {
    let target = text(document, "/spec/scaleTargetRef/name");
    match pods.iter().find(|pod| text(pod, "/metadata/name") == target) {
        None => vec![format!("it scales {target}, which is not there")],
        Some(pod) if !pod["spec"]["replicas"].is_null() => {
            vec![format!("{target} sets replicas itself, so that each apply undoes the scaling")]
        }
        Some(_) => Vec::new(),
    }
}

fn policy(document: &Value, pods: &[&Value]) -> Vec<String> {
    let selector = &document["spec"]["podSelector"]["matchLabels"];
    let meant = selected(selector, pods);
    if meant.is_empty() {
        return vec![format!("its selector {selector} means no pod")];
    }
    let rules = list(&document["spec"]["ingress"]);
    let named = rules.iter().flat_map(|rule| list(&rule["ports"])).map(|port| text(port, "/port"));
    let missing = |port: &&str| !meant.iter().all(|pod| ports(pod).contains(port));
    named.filter(missing).map(|port| format!("not all pods that it means have a port `{port}`")).collect()
}

fn workload(document: &Value, documents: &[Document]) -> Vec<String> {
    let mut errors = Vec::new();
    let (spec, pod) = (&document["spec"], &document["spec"]["template"]["spec"]);
    let role = text(document, "/metadata/name");
    if selected(&spec["selector"]["matchLabels"], &[document]).is_empty() {
        errors.push("its selector does not mean its own pods".to_owned());
    }
    if pod["securityContext"]["runAsNonRoot"] != json!(true) {
        errors.push("it may run as root".to_owned());
    }
    let mut volumes: Vec<&str> = list(&pod["volumes"]).iter().map(|v| text(v, "/name")).collect();
    volumes.extend(list(&spec["volumeClaimTemplates"]).iter().map(|v| text(v, "/metadata/name")));
    for volume in list(&pod["volumes"]) {
        let secret = text(volume, "/secret/secretName");
        let is_known =
            |(_, d): &Document| text(d, "/kind") == "Secret" && text(d, "/metadata/name") == secret;
        if !secret.is_empty() && !documents.iter().any(is_known) {
            errors.push(format!("nobody says how the secret {secret} is made"));
        }
    }
    for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
        errors.extend(confined(container, &volumes));
    }
    let Some(main) = list(&pod["containers"]).first() else { return vec!["it has no container".to_owned()] };
    errors.extend(main_container(main, role));
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    let before = main["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
    if grace < before + DRAIN_S_MIN {
        errors.push(format!(
            "{grace} s of grace are fewer than {before} s before SIGTERM and {DRAIN_S_MIN} s behind"
        ));
    }
    let is_budget = |(_, d): &Document| {
        text(d, "/kind") == "PodDisruptionBudget"
            && !selected(&d["spec"]["selector"]["matchLabels"], &[document]).is_empty()
    };
    if spec["replicas"] != json!(1) && !documents.iter().any(is_budget) {
        errors.push("it has several pods and no PodDisruptionBudget".to_owned());
    }
    errors
}

/// Whether a container has no more rights than it needs, and its mounts have volumes.
fn confined(container: &Value, volumes: &[&str]) -> Vec<String> {
    let name = text(container, "/name");
    let context = &container["securityContext"];
    let mut errors = Vec::new();
    let right = context["allowPrivilegeEscalation"] == json!(false)
        && context["readOnlyRootFilesystem"] == json!(true)
        && context["capabilities"]["drop"] == json!(["ALL"]);
    if !right {
        errors.push(format!("container {name} has rights that it does not need"));
    }
    if container["resources"]["requests"]["memory"].is_null()
        || container["resources"]["limits"]["memory"].is_null()
    {
        errors.push(format!("container {name} says nothing of its memory"));
    }
    for mount in list(&container["volumeMounts"]) {
        let volume = text(mount, "/name");
        if !volumes.contains(&volume) {
            errors.push(format!("container {name} mounts {volume}, which is no volume"));
        }
    }
    errors
}

/// Whether the platform's container runs its role, with probes on ports and variables that are there.
fn main_container(container: &Value, role: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let args: Vec<&str> = list(&container["args"]).iter().filter_map(Value::as_str).collect();
    if args.first() != Some(&"run") || !args.windows(2).any(|pair| pair == ["--role", role]) {
        errors.push(format!("it does not run the role {role}"));
    }
    let variables: Vec<&str> = list(&container["env"]).iter().map(|v| text(v, "/name")).collect();
    for part in args.iter().flat_map(|arg| arg.split("$(").skip(1)) {
        let name = part.split(')').next().unwrap_or_default();
        if !variables.contains(&name) {
            errors.push(format!("`$({name})` is no variable of the container"));
        }
    }
    let ports: Vec<&str> = list(&container["ports"]).iter().map(|port| text(port, "/name")).collect();
    for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
        let call = &container[probe];
        let port = [text(call, "/httpGet/port"), text(call, "/tcpSocket/port")].concat();
        if !ports.contains(&port.as_str()) {
            errors.push(format!("{probe} is missing or asks at `{port}`, which is no port"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::{errors, unlisted};
    use crate::deploy::yaml;
    use serde_json::json;

    const FILES: [(&str, &str); 8] = [
        ("access.yaml", include_str!("../../../../deploy/k8s/access.yaml")),
        ("lottery.yaml", include_str!("../../../../deploy/k8s/lottery.yaml")),
        ("flow.yaml", include_str!("../../../../deploy/k8s/flow.yaml")),
        ("delivery.yaml", include_str!("../../../../deploy/k8s/delivery.yaml")),
        ("console.yaml", include_str!("../../../../deploy/k8s/console.yaml")),
        ("chat.yaml", include_str!("../../../../deploy/k8s/chat.yaml")),
        ("network.yaml", include_str!("../../../../deploy/k8s/network.yaml")),
        ("secrets.example.yaml", include_str!("../../../../deploy/k8s/secrets.example.yaml")),
    ];

    /// What is found when a text is replaced in a file.
    fn with(file: &str, from: &str, to: &str) -> Vec<String> {
        let mut documents = Vec::new();
        for (name, text) in FILES {
            assert!(name != file || text.contains(from), "{file} has no {from}");
            let text = if name == file { text.replace(from, to) } else { text.to_owned() };
            let read = yaml::documents(&text).unwrap();
            documents.extend(read.into_iter().map(|document| (name.to_owned(), document)));
        }
        errors(&documents)
    }

    #[test]
    fn whatever_is_misspelt_is_found() {
        assert_eq!(with("access.yaml", "access", "access"), Vec::<String>::new());
        for (file, from, to, why) in [
            ("access.yaml", "targetPort: frames", "targetPort: frame", "targetPort `frame`"),
            ("access.yaml", "kind: Deployment, name: access", "kind: Deployment, name: door", "scales door"),
            (
                "access.yaml",
                "terminationGracePeriodSeconds: 60",
                "terminationGracePeriodSeconds: 20",
                "of grace",
            ),
            ("lottery.yaml", "$(NODE_ID)", "$(NODE)", "`$(NODE)`"),
            ("lottery.yaml", "- metadata: {name: state}", "- metadata: {name: log}", "mounts state"),
            ("lottery.yaml", "kind: PodDisruptionBudget", "kind: Secret", "no PodDisruptionBudget"),
            (
                "lottery.yaml",
                "port: health}, periodSeconds: 2,",
                "port: healthy}, periodSeconds: 2,",
                "readinessProbe",
            ),
            ("flow.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "as root"),
            ("flow.yaml", "\"flow\"", "\"delivery\"", "run the role flow"),
            ("delivery.yaml", "drop: [ALL]", "drop: []", "rights"),
            ("console.yaml", "name: console\n", "name: desk\n", "runs the role console"),
            ("network.yaml", "port: calls", "port: call", "port `call`"),
            ("network.yaml", "component: access", "component: door", "means no pod"),
            ("secrets.example.yaml", "name: hongbao-keys", "name: keys", "hongbao-keys is made"),
        ] {
            let found = with(file, from, to).join("\n");
            assert!(found.contains(why), "{file} {to}: {found}");
        }
    }

    #[test]
    fn every_manifest_is_applied() {
        let files = ["a.yaml", "b.yaml", "c.example.yaml", "kustomization.yaml"].map(String::from);
        let found = unlisted(&json!({"resources": ["a.yaml", "d.yaml"]}), &files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("b.yaml") && found[1].contains("d.yaml"));
    }
}
