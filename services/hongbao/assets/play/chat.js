// One tab's chat: a device with conversations, what each has come to, and a queue for each person it writes to. It keeps
// the promises of crates/client: each message once and in order, a resend under the same counter.
import { KIND } from './wire.js';

const STORED = 1, STORED_BEFORE = 2, PENDING = 3, OUT_OF_TURN = 4, BUSY = 8;
export const MESSAGE = { TEXT: 1, OFFICIAL: 8, CHANGE: 32, RECALL: 33 };
export const TALK = { PAIR: 1, GROUP: 2, OFFICIAL: 3 };

// Only the newest messages of a conversation are kept in the page.
const KEPT = 500;

export class Chat {
  // `changed(what)` redraws.
  constructor(user, store, changed) {
    Object.assign(this, { user, store, changed, link: null, talks: new Map(), names: new Map(), friends: [], cursor: 0n, live: false });
    const kept = JSON.parse(store.getItem(`chat ${user}`) || '{}');
    this.device = BigInt(kept.device || 0) || this.newDevice();
    // By 'c<conversation>' or 'u<user>': the next counter, numbers that are given up, and what waits.
    this.lines = kept.lines || {};
    for (const line of Object.values(this.lines)) delete line.busy;
    this.keep();
  }

  newDevice() {
    const random = crypto.getRandomValues(new BigUint64Array(1))[0];
    return (random >> 1n) | 1n;
  }

  keep() {
    this.store.setItem(`chat ${this.user}`, JSON.stringify({ device: String(this.device), lines: this.lines }));
  }

  // A connection is logged in.
  opened(link) {
    this.link = link;
    this.live = false;
    this.held = [];
    this.sync();
  }

  closed() {
    this.live = false;
    this.link = null;
    this.changed('link');
  }

  async sync() {
    const link = this.link;
    try {
      for (let more = true; more && this.link === link;) {
        const { sync } = await link.chat('sync', { cursor: this.cursor, limit: 200 });
        if (sync.start) await this.list();
        for (const entry of sync.entries) this.entry(entry);
        this.move(sync.cursor);
        for (const head of sync.heads) this.head(head);
        more = sync.more;
      }
    } catch (error) {
      if (this.link === link && link) setTimeout(() => this.sync(), error.retry_after_ms || 1000);
      return;
    }
    if (this.link !== link) return;
    this.live = true;
    const held = this.held;
    this.held = [];
    for (const push of held) this.push(push);
    for (const key of Object.keys(this.lines)) this.flush(key);
    this.befriended();
    this.changed('link');
  }

  // The conversation list: where everything stands.
  async list() {
    let page = { limit: 200 };
    for (let more = true; more;) {
      const { conversations } = await this.link.chat('conversations', page);
      for (const view of conversations.conversations) {
        const talk = this.talk(view.conversation);
        Object.assign(talk, { kind: view.kind, peer: view.peer, name: view.name, unread: view.unread, read: view.read_seq });
        if (view.kind !== TALK.GROUP) this.name(view.peer);
        talk.last = talk.last > view.last_seq ? talk.last : view.last_seq;
        if (talk.have === null) {
          talk.have = view.last_seq;
          if (view.last) talk.messages.push(view.last);
        }
        talk.active = Number(view.active_ms);
        this.fill(talk);
      }
      const last = conversations.conversations.at(-1);
      more = conversations.more && last !== undefined;
      if (more) page = { before_ms: last.active_ms, before_conversation: last.conversation, limit: 200 };
    }
    this.changed('talks');
  }

  talk(id) {
    const key = String(id);
    if (!this.talks.has(key)) {
      this.talks.set(key, { id, kind: 0, peer: 0n, name: '', have: null, last: 0n, early: new Map(), messages: [], unread: 0n, read: 0n, active: 0 });
    }
    return this.talks.get(key);
  }

  // Something came unasked.
  push(push) {
    if (!this.live || push.after > this.cursor) {
      if (this.held.length < 100) this.held.push(push);
      if (this.live) { this.live = false; this.sync(); }
      return;
    }
    for (const entry of push.entries) this.entry(entry);
    this.move(push.cursor);
    for (const head of push.heads) this.head(head);
    for (const read of push.reads) this.readAt(read);
  }

  entry(entry) {
    const talk = this.talk(entry.conversation);
    if (talk.have === null) talk.have = 0n;
    if (entry.message) this.take(talk, entry.message);
    else this.reached(talk, entry.seq);
  }

  head(head) {
    const talk = this.talk(head.conversation);
    if (talk.have === null) talk.have = 0n;
    for (const message of head.messages) this.take(talk, message);
    this.reached(talk, head.seq);
  }

  move(cursor) {
    if (cursor <= this.cursor) return;
    this.cursor = cursor;
    this.confirming ||= setTimeout(() => {
      this.confirming = null;
      this.link?.tell(KIND.Confirm, 'Confirm', { cursor: this.cursor });
    }, 200);
  }

  reached(talk, seq) {
    if (seq > talk.last) talk.last = seq;
    this.fill(talk);
  }

  // A message from anywhere: kept once, shown in order of seq.
  take(talk, message) {
    if (message.seq > talk.last) talk.last = message.seq;
    if (message.seq > talk.have) talk.early.set(message.seq, message);
    this.advance(talk);
    this.fill(talk);
  }

  advance(talk) {
    for (;;) {
      const message = talk.early.get(talk.have + 1n);
      if (message === undefined) break;
      talk.early.delete(talk.have + 1n);
      talk.have += 1n;
      if (message !== null) this.show(talk, message);
    }
  }

  show(talk, message) {
    talk.messages.push(message);
    if (talk.messages.length > KEPT) talk.messages.shift();
    talk.active = Math.max(talk.active, Number(message.sent_ms));
    const own = message.sender === this.user;
    if (!own && message.kind < MESSAGE.CHANGE && message.seq > talk.read) talk.unread += 1n;
    if (!talk.kind) this.meet(talk);
    if (message.sender) this.name(message.sender);
    this.changed('message', talk, message);
  }

  // What a conversation is that came by itself: the list knows.
  meet(talk) {
    talk.kind = TALK.PAIR;
    clearTimeout(this.meeting);
    this.meeting = setTimeout(() => this.list().catch(() => {}), 100);
  }

  // Asks for what is missing. A seq that the answer leaves out may not be seen.
  async fill(talk) {
    if (talk.filling || talk.have === null || talk.have >= talk.last || !this.link) return;
    talk.filling = true;
    const link = this.link;
    // One's own message may be on its way.
    await new Promise((done) => setTimeout(done, 100));
    try {
      while (talk.have < talk.last && this.link === link) {
        const { range } = await link.chat('range', { conversation: talk.id, from_seq: talk.have + 1n, to_seq: talk.last, limit: 200 });
        const got = new Map(range.messages.map((message) => [message.seq, message]));
        const end = range.more && range.messages.length ? range.messages.at(-1).seq : range.last_seq;
        if (range.first_seq > talk.have + 1n) talk.have = range.first_seq - 1n;
        for (let seq = talk.have + 1n; seq <= end; seq++) {
          if (!talk.early.has(seq)) talk.early.set(seq, got.get(seq) ?? null);
        }
        const before = talk.have;
        this.advance(talk);
        if (talk.have === before) break;
      }
    } catch { /* asked again with the next message or connection */ }
    talk.filling = false;
  }

  // The messages before those that are shown.
  async history(talk) {
    const first = talk.messages[0]?.seq ?? talk.have + 1n;
    if (first <= 1n || !this.link) return;
    const { range } = await this.link.chat('range', { conversation: talk.id, to_seq: first - 1n, limit: 50, newest_first: true });
    const older = range.messages.sort((a, b) => (a.seq < b.seq ? -1 : 1)).filter((m) => m.seq < first);
    talk.messages.unshift(...older);
    this.changed('history', talk);
  }

  line(key) {
    return (this.lines[key] ||= { next: 1, given: 0, waiting: [] });
  }

  // What was begun under a person's name goes on under it until the platform has named the conversation: two lines would
  // count twice.
  keyOf(talk) {
    const person = `u${talk.peer}`;
    return talk.id && !(talk.peer && this.lines[person]) ? `c${talk.id}` : person;
  }

  // Writes to a conversation, or to the person of a talk that has none yet.
  send(talk, words) {
    const key = this.keyOf(talk);
    const mark = `${Date.now()} ${Math.random()}`;
    this.line(key).waiting.push({ mark, words, counter: 0 });
    this.keep();
    this.flush(key);
    return mark;
  }

  waiting(talk) {
    return this.lines[this.keyOf(talk)]?.waiting ?? [];
  }

  // Sends the first that waits in a line, again and again, until it is answered for good.
  async flush(key) {
    const line = this.line(key);
    if (line.busy) return;
    line.busy = true;
    while (this.live && line.waiting.length) {
      const item = line.waiting[0];
      item.counter ||= line.next++;
      this.keep();
      const to = key[0] === 'c' ? { conversation: BigInt(key.slice(1)) } : { to_user: BigInt(key.slice(1)) };
      let pause = 0;
      try {
        const body = new TextEncoder().encode(item.words);
        const given = Math.min(line.given, item.counter - 1);
        const message = { ...to, counter: item.counter, given_up: given, kind: MESSAGE.TEXT, body };
        const answer = await this.link.ask(KIND.Send, 'Send', message);
        pause = this.answered(key, line, item, answer, body);
      } catch (error) {
        pause = error.retry_after_ms || 1000;
        if (!error.retry_after_ms && error.code) this.refuse(line, item, error.message);
      }
      if (pause) await new Promise((done) => setTimeout(done, pause));
    }
    delete line.busy;
  }

  // Gives how long to wait before the next attempt.
  answered(key, line, item, answer, body) {
    switch (answer.outcome) {
      case STORED:
      case STORED_BEFORE: {
        line.waiting.shift();
        if (answer.outcome === STORED) {
          const talk = this.talk(answer.conversation);
          if (talk.have === null) talk.have = 0n;
          if (key[0] === 'u') this.adopt(key, talk);
          this.take(talk, {
            message_id: answer.message_id, conversation: answer.conversation, seq: answer.seq, sender: this.user,
            device: this.device, counter: BigInt(item.counter), kind: MESSAGE.TEXT, body, sent_ms: answer.sent_ms, recalled: false,
          });
        }
        this.keep();
        return 0;
      }
      case PENDING:
      case BUSY:
        return answer.retry_after_ms || 200;
      case OUT_OF_TURN:
        line.given = Math.max(line.given, item.counter - 1);
        return answer.retry_after_ms || 100;
      default:
        this.refuse(line, item, answer.reason);
        return 0;
    }
  }

  refuse(line, item, reason) {
    line.waiting.shift();
    line.given = Math.max(line.given, item.counter);
    this.keep();
    this.changed('refused', null, { words: item.words, reason });
  }

  // A person's line becomes the conversation's.
  adopt(key, talk) {
    talk.peer = BigInt(key.slice(1));
    talk.kind ||= TALK.PAIR;
    const to = `c${talk.id}`;
    this.lines[to] ||= this.lines[key];
    delete this.lines[key];
    this.changed('adopted', talk);
  }

  // The conversation with a person, or one that its first message will make.
  withUser(user) {
    for (const talk of this.talks.values()) {
      if (talk.peer === user && talk.kind !== TALK.GROUP) return talk;
    }
    return { id: 0n, kind: TALK.PAIR, peer: user, name: '', messages: [], unread: 0n, read: 0n, have: 0n, last: 0n };
  }

  async read(talk) {
    if (!talk.id || talk.have === null || talk.have <= talk.read || !this.link) return;
    talk.read = talk.have;
    try {
      const answer = await this.link.chat('mark_read', { conversation: talk.id, seq: talk.have });
      if (answer.read_at) this.readAt(answer.read_at);
    } catch { /* the next look tells it */ }
  }

  readAt(read) {
    const talk = this.talk(read.conversation);
    if (read.seq > talk.read) talk.read = read.seq;
    talk.unread = read.unread;
    this.changed('talks');
  }

  // Asks to be friends; both have to.
  async befriend(user) {
    await this.link.chat('befriend', { user });
    this.name(user);
    await this.befriended();
  }

  async befriended() {
    try {
      const { friends } = await this.link.chat('friends', { limit: 500 });
      this.friends = friends.friends;
      for (const friend of this.friends) this.name(friend.user);
      this.changed('friends');
    } catch { /* shown at the next look */ }
  }

  // Learns a user's name, once.
  name(user) {
    const key = String(user);
    if (this.names.has(key) || !this.link) return;
    this.names.set(key, null);
    this.unnamed ||= [];
    this.unnamed.push(user);
    clearTimeout(this.naming);
    this.naming = setTimeout(() => this.askNames(), 30);
  }

  async askNames() {
    const users = this.unnamed.splice(0, 100);
    try {
      const { profiles } = await this.link.chat('profiles', { users });
      for (const profile of profiles.profiles) this.names.set(String(profile.user), profile);
      this.changed('talks');
    } catch {
      for (const user of users) this.names.delete(String(user));
    }
  }
}
