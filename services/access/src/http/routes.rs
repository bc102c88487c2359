//! The routes for requests that chat answers: one table, from which requests are served and described.

use protocol::v1::chat_request::Ask;
use protocol::v1::{self};

use super::body::Form;

/// All routes, for whoever asks for one that there is not.
pub(super) const ALL: &str = "POST /v1/submit, POST /v1/claim, POST /v1/account, GET /v1/prizes, GET /v1/campaigns, \
    POST /v1/chat/..., GET /v1/ws, GET /v1/scheduler, GET /v1/openapi.json (which has them all), GET /healthz, GET /metrics";

/// A route whose body is a message of `ChatRequest`.
pub(super) struct ChatRoute {
    pub path: &'static str,
    /// What it does, for the document.
    pub about: &'static str,
    /// Names of the messages.
    pub body: &'static str,
    pub answer: &'static str,
    /// Makes the request of a body.
    pub read: fn(Form, &[u8]) -> Result<Ask, v1::Error>,
}

macro_rules! chat_routes {
    ($($path:literal $ask:ident($body:ident) -> $answer:ident: $about:literal;)*) => {
        pub(super) const CHAT: &[ChatRoute] = &[$(ChatRoute {
            path: $path,
            about: $about,
            body: stringify!($body),
            answer: stringify!($answer),
            read: |form, bytes| Ok(Ask::$ask(form.read::<v1::$body>(bytes)?)),
        }),*];
    };
}

chat_routes! {
    "/v1/chat/sync" Sync(SyncRequest) -> SyncAnswer: "What a device does not have yet.";
    "/v1/chat/range" Range(RangeRequest) -> RangeAnswer: "Messages of a conversation by their numbers.";
    "/v1/chat/conversations" Conversations(ConversationsRequest) -> ConversationsAnswer: "The conversation list, newest first.";
    "/v1/chat/read" MarkRead(MarkRead) -> ReadAt: "The user has read up to here.";
    "/v1/chat/recall" Recall(Recall) -> Done: "Takes a message back.";
    "/v1/chat/delete" Delete(Delete) -> Done: "Deletes messages for this user only.";
    "/v1/chat/notice" SetNotice(SetNotice) -> Done: "Whether the user wants notice of a conversation.";
    "/v1/chat/groups" MakeGroup(MakeGroup) -> Done: "Makes a group.";
    "/v1/chat/groups/add" AddMembers(AddMembers) -> Done: "Adds members to a group.";
    "/v1/chat/groups/remove" RemoveMembers(RemoveMembers) -> Done: "Takes members out of a group, or leaves it.";
    "/v1/chat/groups/role" SetRole(SetRole) -> Done: "Sets a member's role.";
    "/v1/chat/groups/mute" Mute(Mute) -> Done: "Mutes a member, or everybody.";
    "/v1/chat/groups/rename" Rename(Rename) -> Done: "Gives a group another name.";
    "/v1/chat/groups/dissolve" Dissolve(Dissolve) -> Done: "Ends a group.";
    "/v1/chat/groups/members" Members(MembersRequest) -> MembersAnswer: "The members of a group.";
    "/v1/chat/friends" Friends(FriendsRequest) -> FriendsAnswer: "The user's friends, and who asks to be one.";
    "/v1/chat/friends/add" Befriend(Befriend) -> Done: "Asks for friendship; friends once both have asked.";
    "/v1/chat/friends/remove" Unfriend(Unfriend) -> Done: "Ends a friendship, or blocks somebody.";
    "/v1/chat/presence" Presence(PresenceRequest) -> PresenceAnswer: "Who is online.";
    "/v1/chat/profile" SetProfile(SetProfile) -> Done: "Sets the user's name and language.";
    "/v1/chat/profiles" Profiles(ProfilesRequest) -> ProfilesAnswer: "Names of users.";
    "/v1/chat/devices" Devices(DevicesRequest) -> DevicesAnswer: "The user's devices.";
    "/v1/chat/devices/forget" ForgetDevice(ForgetDevice) -> Done: "Forgets a device.";
}

/// Where messages are sent.
pub(super) const SEND: &str = "/v1/chat/send";

/// What a path takes; none where there is no such path.
pub(super) fn methods(path: &str) -> Option<&'static str> {
    match path {
        "/v1/submit" | "/v1/claim" | "/v1/account" | SEND => Some("POST"),
        "/v1/prizes" | "/v1/campaigns" | "/v1/ws" | "/v1/scheduler" | "/v1/openapi.json" | "/healthz"
        | "/metrics" => Some("GET"),
        path => of(path).map(|_| "POST"),
    }
}

/// The chat route of a path.
pub(super) fn of(path: &str) -> Option<&'static ChatRoute> {
    CHAT.iter().find(|route| route.path == path)
}
