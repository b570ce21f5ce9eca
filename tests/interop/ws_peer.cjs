// The package ws as both peers. Arguments: its folder, and a file with what there is to say.
//
// Orders come as JSON, one a line; each has a number and is answered with one line, [number, answer]:
//     {"do": "serve", "options": {...}}        {"port": 1234}, of an echo server
//     {"do": "stop"}                           {"closes": [1000, ...]}: how its connections ended
//     {"do": "talk", "port": 1234, "options": {...}, "say": "all"}
//                                              {"answer": "permessage-deflate; ...", "wrong": [...]}
// A message is ["text", "..."] or ["binary", base64].

"use strict";

const fs = require("node:fs");
const readline = require("node:readline");

const { WebSocket, WebSocketServer } = require(process.argv[2]);
const sayings = JSON.parse(fs.readFileSync(process.argv[3], "utf8"));

const LONG = 10_000;
let server;
let closes = [];

function tell(number, answer) {
  process.stdout.write(JSON.stringify([number, answer]) + "\n");
}

// Long messages go in fragments, the last one empty.
function send(ws, data, binary) {
  if (data.length <= LONG) {
    ws.send(data, { binary });
    return;
  }
  ws.send(data.subarray(0, 0), { binary, fin: false });
  for (let at = 0; at < data.length; at += 100_000) {
    ws.send(data.subarray(at, at + 100_000), { binary, fin: false });
  }
  ws.send(data.subarray(0, 0), { binary, fin: true });
}

function serve({ number, options }) {
  closes = [];
  server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: options });
  server.on("listening", () => tell(number, { port: server.address().port }));
  server.on("connection", (ws) => {
    ws.on("message", (data, binary) => send(ws, data, binary));
    closes.push(
      new Promise((resolve) => {
        ws.on("error", (error) => resolve(error.message));
        ws.on("close", (code) => resolve(code));
      }),
    );
  });
}

function stop({ number }) {
  server.close(async () => tell(number, { closes: await Promise.all(closes) }));
}

function talk({ number, port, options, say }) {
  const messages = sayings[say].map(([kind, text]) => ({
    binary: kind === "binary",
    data: Buffer.from(text, kind === "binary" ? "base64" : "utf8"),
  }));
  const wrong = [];
  let answer = null;
  let at = 0;
  const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: options });
  const next = () => {
    if (at === messages.length) {
      ws.close(1000);
    } else {
      send(ws, messages[at].data, messages[at].binary);
    }
  };
  ws.on("upgrade", (response) => (answer = response.headers["sec-websocket-extensions"] ?? null));
  ws.on("open", next);
  ws.on("message", (data, binary) => {
    if (binary !== messages[at].binary || !data.equals(messages[at].data)) {
      wrong.push(at);
    }
    at += 1;
    next();
  });
  ws.on("error", (error) => wrong.push(error.message));
  ws.on("close", (code) => {
    if (code !== 1000 || at < messages.length) {
      wrong.push(`closed with ${code} after ${at} messages`);
    }
    tell(number, { answer, wrong });
  });
}

const orders = { serve, stop, talk };
readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line);
    orders[order.do](order);
  })
  .on("close", () => process.exit(0));
