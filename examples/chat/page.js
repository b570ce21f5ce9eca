// The page: what people do, what is in the address bar, and what the browser keeps.

import {Talk, random} from "./talk.js";
import {View} from "./view.js";

const $ = (id) => document.getElementById(id);

function kept(storage, name, value) {
  try {
    if (value !== undefined) window[storage].setItem(name, value);
    return window[storage].getItem(name);
  } catch {
    return null;  // the browser keeps nothing for us
  }
}

// The secret that keeps our name for us: of this browser, so that its tabs may share the name.
const key = kept("localStorage", "chat-key") ?? random();
kept("localStorage", "chat-key", key);

const view = new View();
const talk = view.talk = new Talk(view, key);

/** A room's name is its address, written in one way only: the server says what is wrong with it, if it has not to read
    megabytes for that. */
function nameOf(text) {
  return text.slice(0, 99).normalize("NFKC").trim().replace(/^#\s*/, "").toLowerCase().replace(/\s+/g, "-");
}

function addressed() {
  try {
    return nameOf(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return "";
  }
}

/** Go where the address says. */
function go() {
  const name = addressed() || talk.current?.name || talk.defaults[0];
  if (!name) return;
  if (addressed() !== name) history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  showPanel(null);
  if (talk.current) talk.current.draft = $("text").value;
  talk.open(name);
  remember();
  if (matchMedia("(min-width: 720px)").matches) $("text").focus();
}

function remember() {
  kept("sessionStorage", "chat-rooms", JSON.stringify([...talk.rooms.keys()]));
}

talk.onwelcome = () => {
  kept("localStorage", "chat-nick", talk.nick);
  kept("sessionStorage", "chat-inside", "yes");
  if (talk.current) return;
  for (const name of JSON.parse(kept("sessionStorage", "chat-rooms") ?? "[]")) talk.open(name);
  talk.current = null;
  go();
  $("text").focus();
};

talk.onclosed = () => {
  const [next] = talk.rooms.keys();
  remember();
  history.replaceState(null, "", `#${encodeURIComponent(next ?? talk.defaults[0])}`);
  go();
};


$("entry").onsubmit = (event) => {
  event.preventDefault();
  $("nick-error").textContent = "";
  talk.join($("nick").value.trim());
};

$("open").onsubmit = (event) => {
  event.preventDefault();
  const name = nameOf($("room-name").value);
  if (!name) return;
  $("room-name").value = "";
  location.hash = encodeURIComponent(name);
};

$("composer").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim(), most = talk.limits.text;
  const length = [...text].length;
  $("text").focus();
  if (length > most) {
    $("text-error").textContent = `This message is too long to be sent: ${length} characters of at most ${most}.`;
  } else if (text && talk.current) {
    $("text").value = "";
    $("text-error").textContent = "";
    view.length();
    view.stuck = true;
    talk.say(talk.current, text);
  }
};

$("text").oninput = () => {
  $("text-error").textContent = "";
  view.length();
  if ($("text").value.trim() && talk.current) talk.type(talk.current);
};
$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
};


// On a phone the lists of rooms and people are panels over the messages.

const panels = {rooms: $("menu"), people: $("who")};

function showPanel(which) {
  for (const [id, opener] of Object.entries(panels)) {
    const was = $(id).classList.contains("open");
    $(id).classList.toggle("open", id === which);
    opener.setAttribute("aria-expanded", id === which);
    if (id === which) $(id).querySelector("button.close").focus();
    else if (was && $(id).contains(document.activeElement)) opener.focus();
  }
  $("room").inert = which !== null;
}
for (const [id, opener] of Object.entries(panels)) {
  opener.onclick = () => showPanel(id);
  $(id).querySelector("button.close").onclick = () => { showPanel(null); opener.focus(); };
}
$("chat").onkeydown = (event) => {
  const open = Object.keys(panels).find((id) => $(id).classList.contains("open"));
  if (event.key === "Escape" && open) {
    showPanel(null);
    panels[open].focus();
  }
};
matchMedia("(min-width: 720px)").onchange = () => showPanel(null);


$("skip").onclick = (event) => { event.preventDefault(); $("text").focus(); };
$("now").onclick = () => talk.link.check();
$("exit").onclick = () => { if (talk.current) talk.exit(talk.current); };
$("leave").onclick = () => {
  kept("sessionStorage", "chat-inside", "");
  kept("sessionStorage", "chat-rooms", "[]");
  showPanel(null);
  talk.leave();
  $("nick").value = talk.nick;
  $("nick").focus();
};
$("newer").onclick = () => { view.scrollToEnd(); $("text").focus(); };
$("log").onscroll = ({target}) => {
  view.stuck = target.scrollHeight - target.scrollTop - target.clientHeight < 60;
  if (view.stuck) $("newer").hidden = true;
};
new ResizeObserver(() => { if (view.stuck) view.scrollToEnd(); }).observe($("log"));

window.onhashchange = () => { if (talk.inside) go(); };
window.ononline = window.onoffline = () => talk.link.check();
document.onvisibilitychange = () => {
  if (document.hidden) return;
  if (talk.current) talk.current.unread = 0;
  view.rooms();
  talk.link.check();
};
window.onbeforeunload = (event) => { if (talk.unconfirmed) event.preventDefault(); };

$("nick").value = kept("localStorage", "chat-nick") ?? "";
if (addressed()) {
  const name = document.createElement("bdi");  // so that it turns around nothing but itself
  name.textContent = `# ${addressed()}`;
  $("entry-room").replaceChildren("Everybody in ", name, " will see your name and what you write.");
}
if (kept("sessionStorage", "chat-inside") && $("nick").value) {
  talk.join($("nick").value);
} else {
  $("nick").focus();
  $("nick").select();
}
