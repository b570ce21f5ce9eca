// What is seen. What people wrote is shown with textContent, never as HTML.

const $ = (id) => document.getElementById(id);
const MOST_SHOWN = 100;     // rooms of others in the list
const TOGETHER = 300;       // seconds in which messages of one person stand under one name

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function button(text, action) {
  const element = make("button", "link", text);
  element.type = "button";
  element.onclick = action;
  return element;
}

function setHue(element, name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 65536;
  element.style.setProperty("--hue", hash * 137.5 % 360);
}

function avatar(name) {
  const element = make("span", "avatar", [...name][0].toUpperCase());
  element.setAttribute("aria-hidden", "true");
  return element;
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"});
const day = (at) => new Date(at * 1000).toDateString();

export class View {
  constructor() {
    this.stuck = true;      // to the end of the log, as long as nobody scrolls up
    this.timers = {};
  }

  after(name, delay, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, delay);
  }

  // Where we are, and whether we are connected.

  state() {
    const {joined, inside, spread, link, server, limits} = this.talk;
    $("entry").hidden = inside;
    $("chat").hidden = $("skip").hidden = !inside;
    $("connection").hidden = joined ? spread : !link.attempts;
    $("now").hidden = joined || !link.retryAt;
    $("state").textContent = joined ? "Connected" : link.retryAt ? "Offline" : "Connecting…";
    $("state").className = joined ? "online" : "offline";
    $("state").title = joined ? `to the server ${server}` : "";
    $("people").classList.toggle("stale", !joined);
    const alone = "Some servers cannot be reached at the moment: people there get your messages later.";
    this.say($("trouble"), joined ? alone : link.retryAt ? `${link.reason} Trying again` : "Connecting…");
    $("join").textContent = inside || link.retryAt || !link.socket || link.open ? "Join" : "Joining…";
    $("room-name").maxLength = limits.room ?? 99;
    this.countdown();
  }

  say(element, text) {
    if (element.textContent !== text) element.textContent = text;  // or it would be read out again
  }

  countdown() {
    const {retryAt} = this.talk.link;
    const left = retryAt - performance.now();
    $("countdown").textContent = retryAt ? `in ${Math.max(0, Math.ceil(left / 1000))} s` : "";
    if (retryAt) this.after("countdown", left % 1000 + 10, () => this.countdown());
  }

  welcome() {
    const {nick} = this.talk;
    $("nick-error").textContent = "";
    setHue($("me"), nick);
    $("me").querySelector(".avatar").textContent = [...nick][0].toUpperCase();
    $("me").querySelector("bdi").textContent = nick;
    if (this.talk.onwelcome) this.talk.onwelcome();
    this.rooms();
  }

  notLetIn(text) {
    this.state();
    $("nick-error").textContent = text;
    $("nick").value = this.talk.nick;
    $("nick").focus();
    $("nick").select();
  }

  error(text) {
    $("text-error").textContent = text;
  }

  roomRefused(text) {
    $("room-error").textContent = text;
    $("text-error").textContent = text;
  }

  // Rooms.

  opened(room) {
    for (const id of ["room-error", "text-error"]) $(id).textContent = "";
    $("title").textContent = `# ${room.name}`;
    $("text").setAttribute("placeholder", `Write to # ${room.name}`);
    $("text").value = room.draft;
    this.quiet(room);
    $("said").replaceChildren();
    this.last = null;
    this.day = day(Date.now() / 1000);  // of today's messages that is not said
    for (const line of room.lines) this.append(line);
    this.unsent(room);
    this.people(room);
    this.typing(room);
    this.rooms();
    this.length();
    this.scrollToEnd();
  }

  closed(room) {
    this.rooms();
    if (!this.talk.current) this.talk.onclosed(room);
  }

  rooms() {
    const {rooms, defaults, counts, current} = this.talk;
    const others = new Set([...defaults, ...[...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a))]);
    const item = (name) => {
      const room = rooms.get(name), people = counts.get(name) ?? 0;
      const item = make("li"), link = make("a");
      link.href = `#${encodeURIComponent(name)}`;
      link.append(make("bdi", "", name));
      if (room && room === current) link.setAttribute("aria-current", "page");
      if (room?.unread) {
        link.classList.add("unread");
        link.append(make("span", "badge", room.unread), make("span", "unseen", " new, "));
      }
      const count = make("span", "count", people || "");
      count.append(make("span", "unseen", people ? " here" : "nobody here"));
      link.append(count);
      item.append(link);
      return item;
    };
    const fill = (id, names) => {
      const list = $(id), before = [...list.children], items = names.map(item);
      if (items.length === before.length && items.every((one, at) => one.isEqualNode(before[at]))) return;
      const at = before.findIndex((one) => one.contains(document.activeElement));
      const same = at >= 0 ? names.indexOf(before[at].querySelector("bdi").textContent) : -1;
      list.replaceChildren(...items);
      if (at >= 0) items[same >= 0 ? same : Math.min(at, items.length - 1)]?.querySelector("a").focus();
    };
    fill("yours", [...rooms.keys()]);
    fill("others", [...others].filter((name) => !rooms.has(name)).slice(0, MOST_SHOWN));
    $("others-title").hidden = !$("others").children.length;
    const elsewhere = [...rooms.values()].reduce((sum, room) => sum + (room === current ? 0 : room.unread), 0);
    const all = elsewhere + (current?.unread ?? 0);
    $("menu-unread").hidden = !elsewhere;
    $("menu-unread").textContent = elsewhere;
    document.title = (all ? `(${all}) ` : "") + (current ? `#${current.name} · Chat` : "Chat");
  }

  news(room) {
    if (room !== this.talk.current || document.hidden) {
      room.unread += 1;
      this.rooms();
    }
  }

  people(room) {
    this.rooms();
    if (room !== this.talk.current) return;
    const {nicks} = room;
    $("people-title").textContent = `Here now: ${nicks.length}`;
    $("who").textContent = `${nicks.length} here`;
    $("people").querySelector("ul").replaceChildren(...nicks.map((name) => {
      const item = make("li");
      setHue(item, name);
      item.append(avatar(name), make("bdi", "", name));
      if (name === this.talk.nick) item.append(make("span", "me", "(you)"));
      return item;
    }));
  }

  typing(room) {
    if (room !== this.talk.current) return;
    const nicks = [...room.typing.keys()], names = nicks.map((nick) => make("bdi", "", nick));
    if (nicks.length > 2) $("typing").replaceChildren(`${nicks.length} people are typing…`);
    else if (nicks.length === 2) $("typing").replaceChildren(names[0], " and ", names[1], " are typing…");
    else if (nicks.length) $("typing").replaceChildren(names[0], " is typing…");
    $("typing").hidden = !nicks.length;
    $("hint").hidden = nicks.length > 0;
  }

  // Messages.

  /** What comes at once, as a room's history does, is not read out. */
  quiet(room) {
    $("log").setAttribute("aria-live", "off");
    if (room.ready) this.after("live", 300, () => $("log").setAttribute("aria-live", "polite"));
  }

  busy(room) {
    if (room === this.talk.current && !(room.ready && $("log").getAttribute("aria-live") === "polite")) this.quiet(room);
  }

  message(nick, text, at, first) {
    const own = nick === this.talk.nick;
    const item = make("li", own ? "message mine" : "message");
    setHue(item, nick);
    if (first && !own) item.append(avatar(nick));
    const head = make("p", "by");
    const time = make("time", "", clock(at));
    time.dateTime = new Date(at * 1000).toISOString();
    head.append(make("bdi", "", own ? "You" : nick), time);
    item.append(head);
    item.classList.toggle("first", first);
    item.append(make("p", "text", text));
    return item;
  }

  append(line) {
    const list = $("said"), last = this.last;
    if (line.notice !== undefined) {
      const item = make("li", "notice");
      item.append(make("bdi", "", line.who), line.notice);
      list.append(item);
      this.last = null;
    } else {
      if (day(line.at) !== this.day) {
        const date = new Date(line.at * 1000).toLocaleDateString([], {weekday: "long", day: "numeric", month: "long"});
        list.append(make("li", "notice day", date));
        this.day = day(line.at);
      }
      const first = last?.nick !== line.nick || line.at - last.at > TOGETHER;
      const item = this.message(line.nick, line.text, line.at, first);
      item.dataset.uid = line.uid;
      list.append(item);
      this.last = first ? line : {nick: line.nick, at: last.at};
    }
    while (list.children.length > 600) list.firstElementChild.remove();
  }

  line(room, line) {
    if (room !== this.talk.current) return;
    this.append(line);
    if (this.stuck || line.nick === this.talk.nick) this.scrollToEnd();
    else if (line.nick) $("newer").hidden = false;
  }

  /** Delivered on this server only, so far. */
  local(room, uid) {
    const item = [...$("said").children].find((item) => item.dataset.uid === uid);
    if (room === this.talk.current && item) item.append(make("p", "fate", "Not on all servers yet"));
  }

  /** What was on this server only is not any more. */
  spread() {
    for (const fate of $("said").querySelectorAll(".fate")) fate.remove();
  }

  unsent(room) {
    if (room !== this.talk.current) return;
    $("unsent").replaceChildren(...room.outbox.map((entry) => {
      const item = this.message(this.talk.nick, entry.text, Date.now() / 1000, true);
      item.className = `message mine first unsent ${entry.fate}`;
      const fate = item.appendChild(make("p", "fate"));
      fate.append(make("span", "", entry.note));
      if (entry.fate === "failed") {
        fate.append(button("Send again", () => { this.talk.sendAgain(room, entry); $("text").focus(); }),
          button("Remove", () => { this.talk.forget(room, entry); $("text").focus(); }));
      }
      return item;
    }));
    if (this.stuck) this.scrollToEnd();
  }

  scrollToEnd() {
    this.stuck = true;
    $("newer").hidden = true;
    $("log").scrollTop = $("log").scrollHeight;
  }

  // The box in which one writes.

  length() {
    const box = $("text"), {limits} = this.talk;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
    const length = [...box.value.trim()].length;
    $("count").textContent = length > limits.text * 0.8 ? `${length} of ${limits.text} characters` : "";
    $("count").classList.toggle("over", length > limits.text);
  }
}
