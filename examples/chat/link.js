// The connection to the server: it is opened again and again, with longer and longer waits, until it is hung up.

const FIRST_DELAY = 500, LONGEST_DELAY = 20000;  // between attempts to connect; all times are in milliseconds
const PATIENCE = 8000;      // a server that leaves us without an answer for so long is gone
const HEARTBEAT = 20000;    // after so long a silence we ask whether it is there

export class Link {
  /** Calls `onopen()`, `onmessage(message)`, and `onchange()` when `retryAt` or `reason` may be others. */
  constructor(path) {
    this.address = location.origin.replace(/^http/, "ws") + path;
    this.socket = null;     // the WebSocket that opens or is open
    this.attempts = 0;      // to connect again, since there was a sign of life
    this.retryAt = 0;       // when the next attempt is made, by performance.now(); 0: it is being made, or none is
    this.reason = "";       // why the last one ended
    this.timers = {};
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  after(name, delay, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, delay);
  }

  cancel(...names) {
    for (const name of names) clearTimeout(this.timers[name]);
  }

  connect() {
    this.cancel("retry");
    this.retryAt = 0;
    this.onchange();
    if (this.socket) return;
    const mine = this.socket = new WebSocket(this.address);
    const whileMine = (action) => (event) => { if (this.socket === mine) action(event); };
    mine.onopen = whileMine(() => this.onopen());
    mine.onmessage = whileMine((event) => this.received(JSON.parse(event.data)));
    mine.onclose = whileMine(({code, reason}) => this.lose(this.explain(code, reason)));
    this.expect();
  }

  explain(code, reason) {
    if (code === 1008 || code === 1009) return `The server has ended the connection: ${reason || code}.`;
    if (code === 1001 || code === 1012) return "The server restarts.";
    return this.lived ? "Connection lost." : "The server cannot be reached.";
  }

  /** Send something; with `answered`, the server is to answer it. */
  send(message, answered = true) {
    this.socket.send(JSON.stringify(message));
    if (answered) this.expect();
  }

  expect() {
    this.after("patience", PATIENCE, () => this.lose("The server does not answer."));
  }

  received(message) {
    this.lived = true;
    this.cancel("patience");
    this.after("heartbeat", HEARTBEAT, () => this.check());
    this.onmessage(message);
  }

  /** Is it there? If it is to be tried again, then now. */
  check() {
    if (this.retryAt) this.connect();
    else if (this.open && this.lived) this.send({type: "ping"});
  }

  /** All is well: the next loss is a new one. */
  settle() {
    this.attempts = 0;
    this.reason = "";
    this.onchange();
  }

  hangUp() {
    this.cancel("patience", "heartbeat", "retry");
    const old = this.socket;
    this.socket = null;
    this.retryAt = 0;
    this.lived = false;
    old?.close();
  }

  lose(reason) {
    this.hangUp();
    this.retry(reason);
  }

  retry(reason) {
    this.attempts += 1;
    this.reason = reason;
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** (this.attempts - 1)) * (0.5 + Math.random());
    this.retryAt = performance.now() + delay;
    this.after("retry", delay, () => this.connect());
    this.onchange();
  }
}
