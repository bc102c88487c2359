//! Pushes on their way from a node to devices.

use super::world::{Event, World};
use prost::Message as _;
use protocol::calls::{ConnectionAt, DeviceAt, PartKind, PushBatch};
use protocol::v1::{PresenceOf, ReadAt};

impl World {
    pub fn push_out(&mut self, pushes: Vec<(u16, PushBatch)>) {
        for (_, batch) in pushes {
            for target in &batch.targets {
                let at = ConnectionAt { access: 1, connection: target.connection };
                let at = DeviceAt { user: target.user, device: target.device, at };
                let part = &batch.parts[target.message as usize];
                let bytes = &batch.bytes[part.bytes.start as usize..part.bytes.end as usize];
                match part.kind {
                    PartKind::Message { conversation, seq } => {
                        let (after, cursor) = (target.after, target.cursor);
                        self.post(|| Event::Push(at, after, cursor, conversation, seq));
                    }
                    PartKind::Read => {
                        let Ok(read) = ReadAt::decode(bytes) else { continue };
                        self.counters.read_pushes += 1;
                        self.post(|| Event::HearsRead(at, read));
                    }
                    PartKind::Presence => {
                        let Ok(presence) = PresenceOf::decode(bytes) else { continue };
                        self.counters.presence_pushes += 1;
                        self.post(|| Event::Sees(at, vec![presence]));
                    }
                    PartKind::Head | PartKind::Bare => {}
                }
            }
        }
    }

    /// A device hears how its user has read.
    pub fn hears_read(&mut self, at: DeviceAt, read: ReadAt) {
        let Some(user) = self.users.iter_mut().find(|user| user.id == at.user) else { return };
        let Some(device) = user.devices.iter_mut().find(|d| d.number == at.device) else { return };
        let heard = device.heard_read.entry(read.conversation).or_default();
        *heard = (*heard).max(read.seq);
    }
}
