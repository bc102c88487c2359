//! `GET /v1/openapi.json`: the HTTP API in OpenAPI 3.1, made from the message definitions and the table of routes, so that
//! it can't say anything else than the code does.

use std::collections::HashMap;
use std::sync::OnceLock;

use http::{Response, StatusCode};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use serde_json::{Map, Value, json};

use super::body::{Body, text};
use super::routes;

/// The document, as it is served.
pub(super) fn response() -> Response<Body> {
    static TEXT: OnceLock<String> = OnceLock::new();
    text(StatusCode::OK, TEXT.get_or_init(|| document().to_string()).clone(), "application/json")
}

fn document() -> Value {
    let mut paths = Map::new();
    let plain = [
        ("/v1/submit", "Submit", "SubmitAnswer", "An entry: the shakes since the last one."),
        ("/v1/claim", "Claim", "ClaimAnswer", "The player wants an award delivered."),
        ("/v1/account", "Account", "AccountAnswer", "What the player is at a vendor."),
        (
            routes::SEND,
            "Send",
            "SendAnswer",
            "Sends a message. The same device and counter again is the same message.",
        ),
    ];
    for (path, body, answer, about) in plain {
        paths.insert(path.to_owned(), json!({ "post": with_body(about, body, answer, &[]) }));
    }
    let named = [device(), user()];
    for route in routes::CHAT {
        let post = with_body(route.about, route.body, route.answer, &named);
        paths.insert(route.path.to_owned(), json!({ "post": post }));
    }
    let query = |name: &str, schema: Value, about: &str| json!({ "name": name, "in": "query", "schema": schema, "description": about });
    let page = [
        query("after", json!({ "type": "string" }), "Only awards behind this one."),
        query("limit", json!({ "type": "integer", "minimum": 1, "maximum": 200 }), "At most so many."),
        user(),
    ];
    paths.insert(
        "/v1/prizes".into(),
        json!({ "get": without_body("The player's awards, oldest first.", "PrizesAnswer", &page) }),
    );
    let campaigns = without_body("Running and coming rounds.", "CampaignsAnswer", &[]);
    paths.insert("/v1/campaigns".into(), json!({ "get": campaigns }));
    paths.insert("/v1/scheduler".into(), json!({ "get": {
        "summary": "Which access node to connect to.",
        "security": [],
        "parameters": [
            query("user", number("uint64"), "Who connects; decides on grey releases."),
            query("region", json!({ "type": "string" }), "Where the client is."),
        ],
        "responses": { "200": { "description": "The node.", "content": { "application/json": { "schema": scheduled() } } }, "default": error() },
    } }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hongbao",
            "version": protocol::PROTOCOL_VERSION.to_string(),
            "description": "Playing and chatting without a long connection. Bodies are JSON, or Protobuf as application/x-protobuf.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
        },
    })
}

fn device() -> Value {
    json!({ "name": "Hongbao-Device", "in": "header", "schema": number("uint64"), "description": "The device that asks." })
}

fn user() -> Value {
    json!({ "name": "user", "in": "query", "schema": number("uint64"), "description": "For gateways: the player." })
}

fn scheduled() -> Value {
    json!({
        "type": "object",
        "required": ["node", "region", "ttlMs"],
        "properties": {
            "node": { "type": "integer" },
            "tcp": { "type": "string", "description": "host:port for frames; left out where there are none." },
            "websocket": { "type": "string", "description": "URL for WebSockets; left out where there are none." },
            "region": { "type": "string" },
            "ttlMs": { "type": "integer", "description": "For how long the answer may be used." },
        },
    })
}

fn reference(message: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{message}") })
}

fn content(message: &str) -> Value {
    json!({ "application/json": { "schema": reference(message) }, "application/x-protobuf": {} })
}

fn error() -> Value {
    json!({ "description": "An error; docs/errors.md has the codes.", "content": content("Error") })
}

fn without_body(about: &str, answer: &str, parameters: &[Value]) -> Value {
    let said = json!({ "description": about, "content": content(answer) });
    json!({ "summary": about, "parameters": parameters, "responses": { "200": said, "default": error() } })
}

fn with_body(about: &str, body: &str, answer: &str, parameters: &[Value]) -> Value {
    let mut operation = without_body(about, answer, parameters);
    operation["requestBody"] = json!({ "required": true, "content": content(body) });
    operation
}

/// Schemas of all messages and enums.
fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    // Made by this build: it can be read.
    let Ok(files) = FileDescriptorSet::decode(protocol::DESCRIPTOR) else { return all };
    for file in &files.file {
        let about = comments(file);
        for (at, message) in file.message_type.iter().enumerate() {
            all.insert(message.name().to_owned(), message_schema(message, at as i32, &about));
        }
        for (at, one) in file.enum_type.iter().enumerate() {
            let names: Vec<_> = one.value.iter().map(|value| value.name().to_owned()).collect();
            let mut schema = json!({ "type": "string", "enum": names });
            describe(&mut schema, about.get(&vec![5, at as i32]));
            all.insert(one.name().to_owned(), schema);
        }
    }
    all
}

fn message_schema(message: &DescriptorProto, at: i32, about: &HashMap<Vec<i32>, String>) -> Value {
    let mut properties = Map::new();
    for (place, field) in message.field.iter().enumerate() {
        let mut schema = field_schema(field);
        describe(&mut schema, about.get(&vec![4, at, 2, place as i32]));
        properties.insert(field.json_name().to_owned(), schema);
    }
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    describe(&mut schema, about.get(&vec![4, at]));
    schema
}

fn field_schema(field: &FieldDescriptorProto) -> Value {
    let one = match field.r#type() {
        Type::Bool => json!({ "type": "boolean" }),
        Type::String => json!({ "type": "string" }),
        Type::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Type::Uint32 | Type::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Type::Int32 | Type::Sint32 | Type::Sfixed32 => json!({ "type": "integer" }),
        Type::Uint64 | Type::Fixed64 => number("uint64"),
        Type::Int64 | Type::Sint64 | Type::Sfixed64 => number("int64"),
        Type::Double | Type::Float => json!({ "type": "number" }),
        Type::Message | Type::Enum | Type::Group => {
            reference(field.type_name().rsplit('.').next().unwrap_or_default())
        }
    };
    if field.label() == Label::Repeated { json!({ "type": "array", "items": one }) } else { one }
}

/// 64 bits are a string in JSON; numbers are read too.
fn number(format: &str) -> Value {
    json!({ "type": ["string", "integer"], "format": format })
}

fn describe(schema: &mut Value, about: Option<&String>) {
    if let (Some(about), Some(schema)) = (about, schema.as_object_mut()) {
        schema.insert("description".to_owned(), json!(about));
    }
}

/// What is written beside each message and field, by its path in the file.
fn comments(file: &FileDescriptorProto) -> HashMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let said = locations.filter_map(|location| {
        let text = [location.leading_comments(), location.trailing_comments()].map(str::trim).join("\n");
        let text = text.trim().to_owned();
        (!text.is_empty()).then(|| (location.path.clone(), text))
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn every_reference_leads_somewhere_and_comments_come_along() {
        let document = document();
        let text = document.to_string();
        for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        let send = &document["paths"]["/v1/chat/send"]["post"];
        assert_eq!(
            send["requestBody"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/Send"
        );
        let body = &document["components"]["schemas"]["Send"]["properties"]["body"];
        assert!(body["description"].as_str().unwrap().contains("3,072"), "{body}");
        assert_eq!(document["paths"]["/v1/chat/sync"]["post"]["parameters"][0]["in"], "header");
    }
}
