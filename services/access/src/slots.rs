//! A worker's table of connections: who is late, who is stuck, who has gone, and for whom pushes wait.
//!
//! A place in the table is given to a new connection when the one before is gone; its generation rises each time, so
//! that an address that chat still holds never reaches a stranger.

use std::task::Waker;

use protocol::calls::{ConnectionAt, DeviceAt};

use crate::counters::Count;
use crate::desk::LoggedIn;
use crate::limits::PLACES_MAX;
use crate::pending::Line;

/// A connection, as its worker sees it.
#[derive(Default)]
pub(crate) struct Slot {
    waker: Option<Waker>,
    /// Cut when nothing has come by then (monotonic ms).
    deadline_ms: u64,
    /// Second at which its token expires.
    expires_s: u64,
    /// Since when answers have been waiting without any being taken (monotonic ms); 0: none do.
    unsent_since_ms: u64,
    /// The device that chats on it; of a gateway's connection none, it has many.
    user: u64,
    device: u64,
    /// Pushes that wait for it.
    pub line: Line,
    generation: u32,
    /// What it is counted as at its deadline.
    late: Option<Count>,
    cut: Option<Count>,
    used: bool,
    /// Logged in.
    open: bool,
    /// Takes pushes.
    chats: bool,
    /// Something came since the last report to chat.
    heard: bool,
    /// It has been told to move, or has to be.
    moving: Moving,
}

/// Whether a connection has to go elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Moving {
    /// It stays.
    #[default]
    No,
    /// It has to be told.
    Tell,
    /// It has been told.
    Told,
}

const _: () = assert!(size_of::<Slot>() <= 112);

/// The table of connections.
#[derive(Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Generation of the first connection at each place.
    first: u32,
}

/// Puts a connection's address together.
pub(crate) fn address(access: u16, worker: usize, place: u32, generation: u32) -> ConnectionAt {
    let connection = (worker as u64) << 56 | u64::from(place) << 32 | u64::from(generation);
    ConnectionAt { access, connection }
}

/// Worker, place and generation of an address.
pub(crate) fn parts(connection: u64) -> (usize, u32, u32) {
    ((connection >> 56) as usize, (connection >> 32) as u32 & (PLACES_MAX - 1), connection as u32)
}

impl Slots {
    /// An empty table. `first`: drawn anew by each process, so that no address of one before it reaches anybody here.
    /// `room`: for so many connections it need not grow; it is address space until it is used.
    pub fn new(first: u32, room: usize) -> Self {
        Self { first, slots: Vec::with_capacity(room), free: Vec::new() }
    }

    /// A place for a new connection that must have logged in by `deadline_ms`.
    pub fn open(&mut self, deadline_ms: u64, late: Count) -> u32 {
        let slot = Slot { deadline_ms, late: Some(late), expires_s: u64::MAX, used: true, ..Slot::default() };
        match self.free.pop() {
            Some(place) => {
                // 0 is nobody's generation: requests without a connection have it.
                let generation = self.slots[place as usize].generation.wrapping_add(1).max(1);
                self.slots[place as usize] = Slot { generation, ..slot };
                place
            }
            None => {
                self.slots.push(Slot { generation: self.first.max(1), ..slot });
                self.slots.len() as u32 - 1
            }
        }
    }

    /// The connection is gone; what was pending for it has been let go.
    pub fn close(&mut self, place: u32) {
        let generation = self.slots[place as usize].generation;
        self.slots[place as usize] = Slot { generation, ..Slot::default() };
        self.free.push(place);
    }

    /// The slot of a place that is in use.
    #[inline]
    pub fn of(&mut self, place: u32) -> &mut Slot {
        &mut self.slots[place as usize]
    }

    /// The slot of an address, if that connection is still there and takes pushes.
    #[inline]
    pub fn addressed(&mut self, place: u32, generation: u32) -> Option<&mut Slot> {
        self.slots.get_mut(place as usize).filter(|slot| slot.chats && slot.generation == generation)
    }

    /// Generation of the connection that has the place.
    pub fn generation(&self, place: u32) -> u32 {
        self.slots[place as usize].generation
    }

    /// A first login; a WebSocket begins anew where HTTP was spoken.
    pub fn restart(&mut self, place: u32, deadline_ms: u64, late: Count) {
        let slot = self.of(place);
        (slot.deadline_ms, slot.late, slot.expires_s) = (deadline_ms, Some(late), u64::MAX);
    }

    /// Something came.
    #[inline]
    pub fn heard(&mut self, place: u32, deadline_ms: u64) {
        let slot = &mut self.slots[place as usize];
        (slot.deadline_ms, slot.late) = (deadline_ms, Some(Count::Silent));
        slot.heard = true;
    }

    /// Somebody has logged in who understands Move, and perhaps chats.
    pub fn logged_in(&mut self, place: u32, LoggedIn { chats, expires_s }: LoggedIn) {
        let slot = self.of(place);
        (slot.open, slot.chats, slot.expires_s) = (true, chats.is_some(), expires_s);
        (slot.user, slot.device) = chats.unwrap_or_default();
    }

    /// Answers wait since this instant, or none do (0).
    #[inline]
    pub fn unsent(&mut self, place: u32, since_ms: u64) {
        self.slots[place as usize].unsent_since_ms = since_ms;
    }

    /// Whether the worker wants the connection gone.
    #[inline]
    pub fn is_cut(&self, place: u32) -> Option<Count> {
        self.slots[place as usize].cut
    }

    /// Whom to wake for a cut, a push or a farewell.
    #[inline]
    pub fn wake_with(&mut self, place: u32, waker: &Waker) {
        match &mut self.slots[place as usize].waker {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Marks those whose time is up.
    pub fn sweep(&mut self, mono_ms: u64, now_s: u64, unsent_ms: u64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.used && slot.cut.is_none()) {
            let stuck = slot.unsent_since_ms != 0 && mono_ms >= slot.unsent_since_ms + unsent_ms;
            slot.cut = if stuck {
                Some(Count::SlowReader)
            } else if mono_ms >= slot.deadline_ms {
                slot.late
            } else if now_s >= slot.expires_s {
                Some(Count::Expired)
            } else {
                None
            };
            if let (Some(_), Some(waker)) = (slot.cut, slot.waker.as_ref()) {
                waker.wake_by_ref();
            }
        }
    }

    /// Devices that have been heard of since the last time.
    pub fn beats(&mut self, access: u16, worker: usize) -> impl Iterator<Item = DeviceAt> {
        let heard = |slot: &mut Slot| slot.device != 0 && std::mem::take(&mut slot.heard);
        self.slots.iter_mut().enumerate().filter_map(move |(place, slot)| {
            heard(slot).then(|| {
                let at = address(access, worker, place as u32, slot.generation);
                DeviceAt { user: slot.user, device: slot.device, at }
            })
        })
    }

    /// Has up to `count` connections told to move that have not been; gives how many.
    pub fn tell_to_move(&mut self, count: usize) -> usize {
        let staying = |slot: &&mut Slot| slot.open && slot.moving == Moving::No;
        let told = self.slots.iter_mut().filter(staying).take(count).map(|slot| {
            slot.moving = Moving::Tell;
            slot.wake();
        });
        told.count()
    }

    /// Those who were told and are still here may be told again.
    pub fn forget_moves(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.moving = Moving::No);
    }

    /// Whether the connection has to be told to move; it has been, with that.
    #[inline]
    pub fn is_to_move(&mut self, place: u32) -> bool {
        let moving = &mut self.slots[place as usize].moving;
        if *moving != Moving::Tell {
            return false;
        }
        *moving = Moving::Told;
        true
    }

    /// Has the turn come of whoever is at a place, if anybody is.
    pub fn wake(&self, place: u32) {
        self.slots.get(place as usize).into_iter().for_each(Slot::wake);
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        self.slots.iter().for_each(Slot::wake);
    }
}

impl Slot {
    /// Has its connection's turn come.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Whether pushes for this user's device may go there: an address that is stale may name a connection of another
    /// process under the same number, and so another's.
    pub fn is_of(&self, user: u64, device: u64) -> bool {
        self.carries() || (self.user, self.device) == (user, device)
    }

    /// Whether it is a gateway's, which carries many devices.
    pub fn carries(&self) -> bool {
        self.device == 0
    }

    /// Whether its reader has left something waiting for longer than `ms`.
    pub fn waits_longer(&self, mono_ms: u64, ms: u64) -> bool {
        self.unsent_since_ms != 0 && mono_ms >= self.unsent_since_ms + ms
    }
}

#[cfg(test)]
mod tests {
    use super::{Slots, address, parts};
    use crate::counters::Count;
    use crate::desk::LoggedIn;

    fn device(user: u64, device: u64) -> LoggedIn {
        LoggedIn { chats: Some((user, device)), expires_s: 30 }
    }

    #[test]
    fn an_address_names_one_connection_only() {
        let mut slots = Slots::default();
        let place = slots.open(10, Count::LoginLate);
        slots.logged_in(place, device(7, 8));
        let at = address(3, 5, place, slots.generation(place));
        let (worker, named, generation) = parts(at.connection);
        assert_eq!((worker, named, at.access), (5, place, 3));
        assert!(slots.addressed(named, generation).is_some());
        slots.close(place);
        assert!(slots.addressed(named, generation).is_none());
        assert_eq!(slots.open(10, Count::LoginLate), place);
        slots.logged_in(place, device(9, 9));
        assert!(slots.addressed(named, generation).is_none(), "a stranger");
        assert_eq!(parts(address(0, 255, 0xff_ffff, u32::MAX).connection), (255, 0xff_ffff, u32::MAX));
    }

    #[test]
    fn a_device_is_reported_when_it_was_heard_of() {
        let mut slots = Slots::default();
        let (one, two) = (slots.open(10, Count::LoginLate), slots.open(10, Count::LoginLate));
        slots.logged_in(one, device(7, 8));
        slots.logged_in(two, device(0, 0));
        slots.heard(one, 20);
        slots.heard(two, 20);
        assert_eq!(slots.beats(1, 0).map(|d| (d.user, d.device)).collect::<Vec<_>>(), [(7, 8)]);
        assert_eq!(slots.beats(1, 0).count(), 0);
    }
}
