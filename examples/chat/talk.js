// What the page knows of the chat, without anything that is seen. The protocol is described at the top of rooms.py.
//
// Nothing is lost: each room keeps the id of the last message that came, and asks for what follows it when the
// connection is back; what we say is in its outbox until the server has confirmed it, and is said again with the same
// uid until then. Nothing is doubled: the server knows the uids of 10 minutes, and the room those that it shows.

import {Link} from "./link.js";

const MOST_KEPT = 500;      // messages of a room
const TYPES_FOR = 5000;     // milliseconds that somebody types without another sign of it
const TYPING_EVERY = 3000;
const BACK_WITHIN = 6000;   // who comes back so soon has not left
const REPORT_LASTS = 7000;  // a server that is silent for longer does not count

export function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Room {
  constructor(name) {
    this.name = name;
    this.cursor = null;         // the id of the last message that came
    this.entered = false;       // over this connection
    this.missing = 0;           // messages that are still to come of those that were said before
    this.members = new Map();   // connections, and whose they are
    this.leaving = new Map();   // nicknames, and the timers after which they are gone
    this.typing = new Map();    // nicknames, and the timers after which they have stopped
    this.lines = [];            // messages {nick, text, at, uid, id} and notices {notice, who}
    this.shown = new Set();     // the keys of messages in `lines`
    this.outbox = [];           // {text, uid, fate, note}: what was said and not confirmed
    this.unread = 0;
    this.fresh = true;          // until all is there for the first time
    this.draft = "";
    this.typed = -Infinity;     // when we have last told that we type
    this.paused = 0;            // a timer: the server has asked us to wait
  }

  get ready() {
    return this.entered && !this.missing;
  }

  get nicks() {
    return [...new Set(this.members.values())].sort((a, b) => a.localeCompare(b));
  }
}

export class Talk {
  /** Calls `view`: see the end of view.js. `key` is this browser's secret. */
  constructor(view, key) {
    this.view = view;
    this.key = key;
    this.nick = "";             // ours, or the one we ask for
    this.joined = false;        // over this connection
    this.inside = false;        // over this connection, or the one that will follow it
    this.spread = true;         // the servers reach each other
    this.server = "";
    this.defaults = [];         // rooms that are there for newcomers
    this.limits = {text: Infinity};
    this.rooms = new Map();     // those that we are in, or want to be in
    this.reports = new Map();   // servers: {at, rooms}
    this.current = null;
    this.link = new Link("/ws");
    this.link.onopen = () => this.hello();
    this.link.onmessage = (message) => this.received(message);
    this.link.onchange = () => this.changed();
  }

  changed() {
    if (this.joined && !this.link.open) this.out();
    this.view.state();
  }

  out() {
    this.joined = false;
    for (const room of this.rooms.values()) {
      room.entered = false;
      for (const entry of room.outbox) if (entry.fate !== "failed") this.setFate(room, entry, "waiting");
    }
  }

  // In and out.

  join(nick) {
    this.nick = nick;
    if (this.link.open) this.hello();
    else this.link.connect();
  }

  hello() {
    this.link.send({type: "hello", nick: this.nick, key: this.key});
  }

  leave() {
    this.inside = false;
    this.link.hangUp();
    this.link.attempts = 0;
    this.rooms.clear();
    this.current = null;
    this.changed();
  }

  /** Be in a room, and look at it. */
  open(name) {
    let room = this.rooms.get(name);
    if (!room) {
      room = new Room(name);
      this.rooms.set(name, room);
      if (this.joined) this.enter(room);
    }
    room.unread = 0;
    this.current = room;
    this.view.opened(room);
  }

  enter(room) {
    this.link.send({type: "enter", room: room.name, after: room.cursor});
  }

  exit(room) {
    if (room.entered && this.joined) this.link.send({type: "exit", room: room.name}, false);
    this.rooms.delete(room.name);
    if (this.current === room) this.current = null;
    this.view.closed(room);
  }

  // What the server says.

  received(message) {
    const room = this.rooms.get(message.room);
    switch (message.type) {
      case "welcome": return this.welcome(message);
      case "rooms": return this.report(message);
      case "state": return this.setSpread(message.spread);
      case "error": return this.refused(room, message);
    }
    if (!room) return;  // that we have left
    switch (message.type) {
      case "entered": return this.entered(room, message);
      case "said": return this.said(room, message);
      case "sent": return this.sent(room, message);
      case "came": return this.came(room, message);
      case "went": return this.went(room, message);
      case "typing": return this.types(room, message.nick);
      case "gap": room.cursor = message.id; return this.notice(room, "Some messages are missing here.");
    }
  }

  welcome({nick, rooms, limits, spread, server}) {
    Object.assign(this, {nick, defaults: rooms, limits, spread, server, joined: true, inside: true});
    this.link.settle();
    for (const room of this.rooms.values()) this.enter(room);
    this.view.welcome();
  }

  setSpread(spread) {
    this.spread = spread;
    if (spread) this.view.spread();
    this.view.state();
  }

  entered(room, {id, recovered, why, replayed, people}) {
    const again = !room.fresh;
    room.entered = true;
    room.missing = replayed;
    room.members = new Map(people);
    for (const timers of [room.leaving, room.typing]) {
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
    }
    if (!recovered) this.notice(room, "You are back. Some messages from the meantime may be missing here.");
    else if (again) this.notice(room, replayed ? "You are back. In the meantime:" : "You are back, and have missed nothing.");
    else if (!replayed && !room.lines.length) this.notice(room, "Nothing has been said here lately.");
    if (!recovered) {
      for (const entry of room.outbox) if (entry.tried) this.setFate(room, entry, "failed", "Perhaps not delivered.");
    }
    if (id !== null) room.cursor = id;
    this.view.people(room);
    this.view.typing(room);
    this.view.busy(room);
    this.caughtUp(room);
  }

  /** After the last message of those that were said before. */
  caughtUp(room) {
    if (room.missing) return;
    if (room.fresh) {
      const others = room.nicks.some((nick) => nick !== this.nick);
      this.notice(room, others ? "You have entered." : "You have entered. Nobody else is here yet.");
      room.fresh = false;
    }
    this.view.busy(room);
    this.sendNext(room);
  }

  said(room, message) {
    room.cursor = message.id;
    const key = `${message.nick}\n${message.uid}`;
    const replayed = room.missing > 0;
    if (!room.shown.has(key)) {
      room.shown.add(key);
      const mine = message.nick === this.nick && room.outbox.find((entry) => entry.uid === message.uid);
      if (mine) this.forget(room, mine);
      this.add(room, message);
      this.stopsTyping(room, message.nick);
      if (message.nick !== this.nick && !(replayed && room.fresh)) this.view.news(room);
    }
    if (replayed) {
      room.missing -= 1;
      this.caughtUp(room);
    } else {
      this.sendNext(room);
    }
  }

  sent(room, {uid, spread}) {
    const entry = room.outbox.find((entry) => entry.uid === uid);
    if (entry) {  // it was said long before, and is behind what we see
      this.forget(room, entry);
      this.add(room, {nick: this.nick, text: entry.text, at: Date.now() / 1000, uid});
    }
    if (!spread) this.view.local(room, uid);
    this.sendNext(room);
  }

  came(room, {member, nick}) {
    const known = room.nicks.includes(nick);
    room.members.set(member, nick);
    if (room.leaving.has(nick)) {
      clearTimeout(room.leaving.get(nick));
      room.leaving.delete(nick);
    } else if (!known && nick !== this.nick) {
      this.notice(room, " has come", nick);
    }
    this.view.people(room);
  }

  went(room, {member, nick}) {
    room.members.delete(member);
    this.stopsTyping(room, nick);
    this.view.people(room);
    if (nick === this.nick || room.nicks.includes(nick)) return;
    clearTimeout(room.leaving.get(nick));
    room.leaving.set(nick, setTimeout(() => {
      room.leaving.delete(nick);
      this.notice(room, " has left", nick);
    }, BACK_WITHIN));
  }

  types(room, nick) {
    if (nick === this.nick) return;
    clearTimeout(room.typing.get(nick));
    room.typing.set(nick, setTimeout(() => this.stopsTyping(room, nick), TYPES_FOR));
    this.view.typing(room);
  }

  stopsTyping(room, nick) {
    clearTimeout(room.typing.get(nick));
    if (room.typing.delete(nick)) this.view.typing(room);
  }

  report({server, rooms}) {
    this.reports.set(server, {at: performance.now(), rooms});
    this.view.rooms();
  }

  /** How many people are where, as far as that is known. */
  get counts() {
    const counts = new Map();
    for (const {at, rooms} of this.reports.values()) {
      if (performance.now() - at > REPORT_LASTS) continue;
      for (const [name, people] of rooms) counts.set(name, (counts.get(name) ?? 0) + people);
    }
    for (const room of this.rooms.values()) if (room.entered) counts.set(room.name, room.nicks.length);
    return counts;
  }

  refused(room, {code, text, wait, uid}) {
    if (!this.joined || code === "nick-lost") return this.notLetIn(code, text);
    const entry = room?.outbox.find((entry) => entry.uid === uid);
    if (entry) {
      if (wait === undefined) return this.setFate(room, entry, "failed", text);
      this.setFate(room, entry, "waiting", "Will be sent in a moment");
      room.paused = setTimeout(() => { room.paused = 0; this.sendNext(room); }, wait * 1000);
    } else if (room && !room.entered && wait !== undefined) {
      setTimeout(() => { if (this.rooms.get(room.name) === room && this.joined) this.enter(room); }, wait * 1000);
      return;
    } else if (room && !room.entered) {
      this.exit(room);
      return this.view.roomRefused(text);
    }
    this.view.error(text);
  }

  notLetIn(code, text) {
    if (this.inside && code === "too-fast") return this.link.lose(text);
    this.out();
    this.inside = false;
    this.link.settle();
    this.view.notLetIn(text);
  }

  // What we say: in each room one message at a time is on its way, so that they stay in order.

  say(room, text) {
    const entry = {text, uid: random(), fate: "waiting", tried: false};
    room.outbox.push(entry);
    this.view.unsent(room);
    this.setFate(room, entry, "waiting");
    room.typed = -Infinity;
    this.sendNext(room);
  }

  sendNext(room) {
    if (this.rooms.get(room.name) !== room) return;  // we have left it meanwhile
    if (!this.joined || !room.ready || room.paused || room.outbox.some((entry) => entry.fate === "sending")) return;
    const entry = room.outbox.find((entry) => entry.fate === "waiting");
    if (!entry) return;
    entry.tried = true;
    this.setFate(room, entry, "sending");
    this.link.send({type: "say", room: room.name, text: entry.text, uid: entry.uid});
  }

  setFate(room, entry, fate, note = this.joined ? "" : "Will be sent when you are connected") {
    Object.assign(entry, {fate, note});
    this.view.unsent(room);
  }

  sendAgain(room, entry) {
    this.setFate(room, entry, "waiting");
    this.sendNext(room);
  }

  forget(room, entry) {
    room.outbox.splice(room.outbox.indexOf(entry), 1);
    this.view.unsent(room);
    if (!room.outbox.length) this.view.error("");
  }

  type(room) {
    if (!this.joined || !room.entered || performance.now() - room.typed < TYPING_EVERY) return;
    room.typed = performance.now();
    this.link.send({type: "typing", room: room.name}, false);
  }

  get unconfirmed() {
    return [...this.rooms.values()].some((room) => room.outbox.length);
  }

  // What a room shows.

  notice(room, notice, who = "") {
    this.add(room, {notice, who});
  }

  add(room, line) {
    room.lines.push(line);
    while (room.lines.length > MOST_KEPT) {
      const old = room.lines.shift();
      room.shown.delete(`${old.nick}\n${old.uid}`);
    }
    this.view.line(room, line);
  }
}
