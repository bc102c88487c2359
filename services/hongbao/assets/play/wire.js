// Frames and Protobuf: what the page and the platform say to each other, on one WebSocket. 64-bit numbers are BigInt.
import { SCHEMA } from './schema.js';

export const KIND = {
  Hello: 1, Welcome: 2, Heartbeat: 3, Login: 4, LoginDone: 5, Submit: 6, SubmitAnswer: 7, Prizes: 8, PrizesAnswer: 9,
  Claim: 10, ClaimAnswer: 11, Account: 12, AccountAnswer: 13, Campaigns: 14, CampaignsAnswer: 15, Error: 16,
  Send: 17, SendAnswer: 18, Push: 19, Confirm: 20, Ask: 21, AskAnswer: 22, Move: 23,
};
const BODY = {
  2: 'Welcome', 5: 'LoginDone', 7: 'SubmitAnswer', 9: 'PrizesAnswer', 11: 'ClaimAnswer', 15: 'CampaignsAnswer',
  16: 'Error', 18: 'SendAnswer', 19: 'Push', 22: 'ChatAnswer', 23: 'Move',
};
const HEAD = 9;
const utf8 = new TextEncoder();
const text = new TextDecoder();

function putNumber(out, value) {
  let left = BigInt.asUintN(64, BigInt(value));
  while (left >= 0x80n) {
    out.push(Number(left & 0x7fn) | 0x80);
    left >>= 7n;
  }
  out.push(Number(left));
}

function putBytes(out, number, bytes) {
  putNumber(out, (number << 3) | 2);
  putNumber(out, bytes.length);
  for (const byte of bytes) out.push(byte);
}

// The bytes of a message.
export function encode(name, message) {
  const out = [];
  for (const [field, [number, type]] of Object.entries(SCHEMA[name])) {
    const value = message[field];
    if (value === undefined || value === null) continue;
    const one = type.replace('*', '');
    const values = type.endsWith('*') ? value : [value];
    for (const item of values) {
      if (one in SCHEMA) putBytes(out, number, encode(one, item));
      else if (one === 'string') { if (item !== '') putBytes(out, number, utf8.encode(item)); }
      else if (one === 'bytes') { if (item.length) putBytes(out, number, item); }
      else if (type.endsWith('*') || BigInt(item) !== 0n) {
        putNumber(out, number << 3);
        putNumber(out, item);
      }
    }
  }
  return out;
}

// A reader over bytes.
class Reader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }

  number() {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.at >= this.bytes.length) throw new Error('a message that ends too soon');
      const byte = this.bytes[this.at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new Error('a number that is too long');
  }

  slice() {
    const length = Number(this.number());
    if (this.at + length > this.bytes.length) throw new Error('a message that ends too soon');
    return this.bytes.subarray(this.at, this.at += length);
  }

  skip(wire) {
    if (wire === 0) this.number();
    else if (wire === 1) this.at += 8;
    else if (wire === 2) this.slice();
    else if (wire === 5) this.at += 4;
    else throw new Error(`wire type ${wire} is not spoken here`);
  }
}

function scalar(type, value) {
  if (type === 'u64') return value;
  if (type === 'i64') return BigInt.asIntN(64, value);
  if (type === 'bool') return value !== 0n;
  return Number(value);
}

const FIELDS = Object.fromEntries(Object.entries(SCHEMA).map(([name, fields]) => [
  name, new Map(Object.entries(fields).map(([field, [number, type]]) => [number, [field, type]])),
]));

function blank(name) {
  const message = {};
  for (const [field, [, type]] of Object.entries(SCHEMA[name])) {
    if (type.endsWith('*')) message[field] = [];
    else if (type === 'string') message[field] = '';
    else if (type === 'bytes') message[field] = new Uint8Array();
    else if (type === 'bool') message[field] = false;
    else if (type === 'u64' || type === 'i64') message[field] = 0n;
    else if (!(type in SCHEMA)) message[field] = 0;
  }
  return message;
}

// A message from its bytes; fields that are not in the schema are passed over.
export function decode(name, bytes) {
  const message = blank(name);
  const reader = new Reader(bytes);
  while (reader.at < bytes.length) {
    const tag = Number(reader.number());
    const known = FIELDS[name].get(tag >> 3);
    if (!known) { reader.skip(tag & 7); continue; }
    const [field, type] = known;
    const one = type.replace('*', '');
    const values = [];
    if (one in SCHEMA) values.push(decode(one, reader.slice()));
    else if (one === 'string') values.push(text.decode(reader.slice()));
    else if (one === 'bytes') values.push(reader.slice().slice());
    else if ((tag & 7) === 2) {
      const packed = new Reader(reader.slice());
      while (packed.at < packed.bytes.length) values.push(scalar(one, packed.number()));
    } else values.push(scalar(one, reader.number()));
    if (type.endsWith('*')) message[field].push(...values);
    else message[field] = values.at(-1);
  }
  return message;
}

// A frame: length, kind, correlation id, body; little-endian.
export function frame(kind, id, name, message) {
  const body = name ? encode(name, message) : [];
  const bytes = new Uint8Array(HEAD + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 5 + body.length, true);
  view.setUint8(4, kind);
  view.setUint32(5, id, true);
  bytes.set(body, HEAD);
  return bytes;
}

// The frames of a stream of bytes, however it was cut.
export class Frames {
  constructor() { this.rest = new Uint8Array(); }

  take(bytes) {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const view = new DataView(all.buffer);
    const frames = [];
    let at = 0;
    while (all.length - at >= 4) {
      const length = view.getUint32(at, true);
      if (length < 5 || length > 65536) throw new Error(`a frame of ${length} bytes`);
      if (all.length - at < 4 + length) break;
      const kind = view.getUint8(at + 4);
      const name = BODY[kind];
      const body = all.subarray(at + HEAD, at + 4 + length);
      frames.push({ kind, id: view.getUint32(at + 5, true), body: name ? decode(name, body) : null });
      at += 4 + length;
    }
    this.rest = all.slice(at);
    return frames;
  }
}

// A connection that is made again and again, with the pauses that docs/protocol.md names. `on` has: open(login), frame(frame),
// closed(), refused(error) and token(), which gives a fresh token.
export class Link {
  constructor(url, device, on) {
    Object.assign(this, { url, device, on, socket: null, asked: new Map(), id: 0, drops: 0, failures: 0, offset: 0, over: false });
    this.open = false;
  }

  async connect() {
    if (this.over) return;
    let token;
    try { token = await this.on.token(); } catch { return this.later(false); }
    const socket = new WebSocket(this.url);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    const frames = new Frames();
    const began = Date.now();
    socket.onopen = () => {
      socket.send(frame(KIND.Hello, 0, 'Hello', { protocol_version: 1, client: 'hongbao play' }));
      socket.send(frame(KIND.Login, 0, 'Login', { user_token: token, device: this.device }));
    };
    socket.onmessage = (event) => {
      this.heard = Date.now();
      try {
        for (const got of frames.take(new Uint8Array(event.data))) this.frame(got, began);
      } catch (error) {
        console.error(error);
        socket.close();
      }
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      const was = this.open;
      this.fall();
      this.later(was);
    };
  }

  // Forgets the connection; what was asked fails.
  fall() {
    clearInterval(this.beat);
    const was = this.open;
    this.open = false;
    for (const [, waiting] of this.asked) waiting.fail({ code: 'closed', message: 'the connection broke', retry_after_ms: 1000 });
    this.asked.clear();
    if (was) this.on.closed();
  }

  later(was) {
    if (this.over) return;
    const spread = 1 - Math.random() / 4;
    const pause = was
      ? Math.min(4000 * 2 ** this.drops++, 30000)
      : Math.min(2000 * 2 ** (this.failures++ >> 1), 120000);
    setTimeout(() => this.connect(), pause * spread);
  }

  close() {
    this.over = true;
    this.socket?.close();
  }

  frame(got, began) {
    switch (got.kind) {
      case KIND.Welcome:
        this.offset = Number(got.body.server_time_ms) + (Date.now() - began) / 2 - Date.now();
        this.every = got.body.heartbeat_ms || 30000;
        break;
      case KIND.LoginDone:
        this.open = true;
        this.failures = 0;
        setTimeout(() => { if (this.open) this.drops = 0; }, 60000);
        this.beat = setInterval(() => this.tick(), Math.min(this.every / 2, 15000));
        this.on.open(got.body);
        break;
      case KIND.Heartbeat: break;
      case KIND.Push: this.on.push(got.body); break;
      case KIND.Move: this.move(got.body); break;
      default: {
        const waiting = this.asked.get(got.id);
        if (waiting) {
          this.asked.delete(got.id);
          if (got.kind === KIND.Error) waiting.fail(got.body); else waiting.done(got.body);
        }
        if (got.kind === KIND.Error && (got.body.fatal || !this.open)) {
          const forGood = ['unauthenticated', 'forbidden', 'invalid'].includes(got.body.code);
          if (forGood) { this.over = true; this.on.refused(got.body); }
          this.socket.close();
        }
      }
    }
  }

  // Connects elsewhere at a random instant of the time that is left; only this page's own host is followed.
  move(where) {
    let url;
    try { url = new URL(where.websocket); } catch { return; }
    if (url.hostname !== location.hostname) return;
    setTimeout(() => {
      const old = this.socket;
      this.fall();
      this.url = url.href;
      this.connect();
      setTimeout(() => old.close(), 3000);
    }, Math.random() * where.within_ms);
  }

  tick() {
    if (Date.now() - this.heard > 3 * this.every) this.socket.close();
    else this.socket.send(frame(KIND.Heartbeat, 0));
  }

  // Sends without an answer.
  tell(kind, name, message) {
    if (this.open) this.socket.send(frame(kind, 0, name, message));
  }

  // Sends, and gives the answer; fails with an Error, also when none comes in time.
  ask(kind, name, message) {
    return new Promise((done, fail) => {
      if (!this.open) return fail({ code: 'closed', message: 'there is no connection', retry_after_ms: 1000 });
      this.id = (this.id % 0x7fffffff) + 1;
      const id = this.id;
      this.asked.set(id, { done, fail });
      setTimeout(() => {
        if (this.asked.delete(id)) fail({ code: 'late', message: 'no answer in time', retry_after_ms: 500 });
      }, 8000);
      this.socket.send(frame(kind, id, name, message));
    });
  }

  // Asks the chat service.
  chat(name, message) {
    return this.ask(KIND.Ask, 'ChatRequest', { [name]: message });
  }

  // The server's clock, ms.
  now() { return Date.now() + this.offset; }
}
