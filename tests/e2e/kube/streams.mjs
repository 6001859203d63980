// As much of a cluster as exec and port-forward need, for what the real one has only with nodes: streams over
// WebSocket (v5.channel.k8s.io) and SPDY/3.1, alone and within a WebSocket. Writes down what arrives.
// usage: node streams.mjs PORT LOG CERTIFICATE KEY
import { createHash } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import { createServer } from "node:https";

const [port, log, certificate, key] = process.argv.slice(2);
const POD = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "web", namespace: "default" },
  spec: { containers: [{ name: "app", image: "x", stdin: true, tty: true }] },
  status: { phase: "Running" },
};
const verbs = ["get", "list", "create"];
const DOCUMENTS = {
  "/version": { major: "1", minor: "31", gitVersion: "v1.31.0" },
  "/api": { kind: "APIVersions", versions: ["v1"] },
  "/apis": { kind: "APIGroupList", apiVersion: "v1", groups: [] },
  "/api/v1": {
    kind: "APIResourceList",
    groupVersion: "v1",
    resources: [{ name: "pods", singularName: "pod", namespaced: true, kind: "Pod", shortNames: ["po"], verbs }],
  },
  "/api/v1/namespaces/default/pods/web": POD,
};

function note({ method, url, headers }) {
  appendFileSync(log, JSON.stringify({ method, url, headers }) + "\n");
}

const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  note(request);
  const found = DOCUMENTS[request.url.split("?")[0]];
  response.writeHead(found ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(found ?? { kind: "Status", apiVersion: "v1", status: "Failure", code: 404 }));
});

const SUCCESS = { metadata: {}, status: "Success" };
const FAILED = {
  metadata: {},
  status: "Failure",
  reason: "NonZeroExitCode",
  message: "command terminated with non-zero exit code",
  details: { causes: [{ reason: "ExitCode", message: "7" }] },
};

// What a command does: `cat` answers what it is sent, everything else says what it is and fails where it is `false`.
function run(query, { out, err, end, input }) {
  const command = query.getAll("command");
  if (command[0] === "cat") {
    input((bytes) => out(bytes), () => end(SUCCESS));
    return;
  }
  if (command[0] === "leak") {
    // Values in more than one frame, and on both streams.
    for (const piece of ["to alice@exam", "ple.com", " now\n"]) out(Buffer.from(piece));
    for (const piece of ["bob@", "example.com\n"]) err(Buffer.from(piece));
    end(FAILED);
    return;
  }
  if (command[0] === "token") {
    const part = (text) => Buffer.from(text).toString("base64url");
    const token = `${part('{"alg":"HS256","typ":"JWT"}')}.${part('{"sub":"1234567890","name":"x"}')}.${part("0123456789abcdef0123456789abcdef")}`;
    for (const piece of [token.slice(0, 20), token.slice(20), "\n"]) out(Buffer.from(piece));
    end(SUCCESS);
    return;
  }
  if (command[0] === "shell" || command.length === 0) {
    // Echoes, as a terminal does; a line that says so is the last.
    let line = "";
    out(Buffer.from("$ "));
    input((bytes) => {
      for (const letter of bytes.toString()) {
        if (letter !== "\r" && letter !== "\n") {
          line += letter;
          out(Buffer.from(letter));
          continue;
        }
        out(Buffer.from(`\r\nyou said ${line}\r\n$ `));
        if (line === "exit") end(FAILED);
        line = "";
      }
    }, () => {});
    return;
  }
  out(Buffer.from(`ran ${command.join("|")}\n`));
  err(Buffer.from("and said so\n"));
  end(command[0] === "false" ? FAILED : SUCCESS);
}

// ---- WebSocket ----

function frame(bytes) {
  const long = bytes.length > 125;
  const head = long ? [0x82, 126, bytes.length >> 8, bytes.length & 255] : [0x82, bytes.length];
  return Buffer.concat([Buffer.from(head), bytes]);
}

function messages(socket, take) {
  let buffer = Buffer.alloc(0);
  return (bytes) => {
    buffer = Buffer.concat([buffer, bytes]);
    for (;;) {
      if (buffer.length < 2) return;
      let length = buffer[1] & 127;
      let at = 2;
      if (length === 126) {
        if (buffer.length < 4) return;
        length = buffer.readUInt16BE(2);
        at = 4;
      }
      if (buffer.length < at + 4 + length) return;
      const mask = buffer.subarray(at, at + 4);
      const payload = Buffer.from(buffer.subarray(at + 4, at + 4 + length).map((byte, i) => byte ^ mask[i % 4]));
      const kind = buffer[0] & 15;
      buffer = buffer.subarray(at + 4 + length);
      if (kind === 8) {
        socket.end(Buffer.from([0x88, 0]));
        return;
      }
      if (kind === 9) socket.write(Buffer.concat([Buffer.from([0x8a, payload.length]), payload]));
      if (kind <= 2) take(payload);
    }
  };
}

function webSocket(request, socket, head, protocol) {
  const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${accept.digest("base64")}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
  const query = new URL(request.url, "https://x").searchParams;
  const send = (bytes) => socket.write(frame(bytes));
  if (protocol.startsWith("SPDY/3.1+")) {
    const take = forward(send);
    socket.on("data", messages(socket, take));
    return;
  }
  const on = (channel) => (bytes) => send(Buffer.concat([Buffer.from([channel]), bytes]));
  let input = [() => {}, () => {}];
  const take = (payload) => {
    if (payload[0] === 0) input[0](payload.subarray(1));
    if (payload[0] === 255 && payload[1] === 0) input[1]();
  };
  socket.on("data", messages(socket, take));
  run(query, {
    out: on(1),
    err: on(2),
    end: (status) => {
      on(3)(Buffer.from(JSON.stringify(status)));
      socket.write(Buffer.from([0x88, 2, 0x03, 0xe8]));
    },
    input: (more, over) => (input = [more, over]),
  });
}

// ---- SPDY/3.1 ----

// A block of no headers, as zlib writes it without compressing, and the mark of a flush; the first begins the stream.
const EMPTY = Buffer.from([0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);

function spdy(send, opened, data) {
  let buffer = Buffer.alloc(0);
  let replied = false;
  const write = (id, bytes, over) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id, 0);
    head.writeUInt32BE(bytes.length, 4);
    head[4] = over ? 1 : 0;
    send(Buffer.concat([head, bytes]));
  };
  const take = (bytes) => {
    buffer = Buffer.concat([buffer, bytes]);
    while (buffer.length >= 8) {
      const length = buffer.readUIntBE(5, 3);
      if (buffer.length < 8 + length) return;
      const [one, flags] = [buffer.subarray(0, 8 + length), buffer[4]];
      buffer = buffer.subarray(8 + length);
      if ((one[0] & 0x80) === 0) {
        data(one.readUInt32BE(0), one.subarray(8), (flags & 1) === 1);
      } else if (one[3] === 1) {
        const id = one.readUInt32BE(8) & 0x7fffffff;
        const block = replied ? EMPTY : Buffer.concat([Buffer.from([0x78, 0x9c]), EMPTY]);
        replied = true;
        const head = Buffer.from([0x80, 3, 0, 2, 0, 0, 0, 4 + block.length, 0, 0, 0, id]);
        send(Buffer.concat([head, block]));
        opened(id);
      } else if (one[3] === 6) {
        send(one);
      }
    }
  };
  return { take, write };
}

// Clients open what they will speak by in an order that is known: errors, then input, output, errors' text.
function exec(query, send) {
  const tty = query.get("tty") === "true";
  const wanted = ["error", "stdin", "stdout", "stderr"].filter((name) => name === "error" || query.get(name) === "true");
  if (tty) wanted.push("resize");
  const ids = {};
  let input = [() => {}, () => {}];
  const streams = spdy(
    send,
    (id) => {
      ids[wanted[Object.keys(ids).length]] = id;
      if (Object.keys(ids).length < wanted.length) return;
      run(query, {
        out: (bytes) => streams.write(ids.stdout, bytes, false),
        err: (bytes) => ids.stderr && streams.write(ids.stderr, bytes, false),
        end: (status) => {
          streams.write(ids.error, Buffer.from(JSON.stringify(status)), true);
          for (const name of ["stdout", "stderr"]) if (ids[name]) streams.write(ids[name], Buffer.alloc(0), true);
        },
        input: (more, over) => (input = [more, over]),
      });
    },
    (id, bytes, over) => {
      if (id !== ids.stdin) return;
      if (bytes.length > 0) input[0](bytes);
      if (over) input[1]();
    },
  );
  return streams.take;
}

// Each connection is two streams: of errors, and of what it carries, which comes back in capitals.
function forward(send) {
  const errors = new Set();
  let last = "data";
  const streams = spdy(
    send,
    (id) => {
      last = last === "data" ? "error" : "data";
      if (last === "error") errors.add(id);
    },
    (id, bytes, over) => {
      if (errors.has(id)) return;
      if (bytes.length > 0) streams.write(id, Buffer.from(bytes.toString().toUpperCase()), false);
      if (over) streams.write(id, Buffer.alloc(0), true);
    },
  );
  return streams.take;
}

server.on("upgrade", (request, socket, head) => {
  note(request);
  socket.on("error", () => {});
  socket.on("end", () => socket.end());
  const query = new URL(request.url, "https://x").searchParams;
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((one) => one.trim());
  if (request.headers.upgrade.toLowerCase() === "websocket") {
    webSocket(request, socket, head, offered[0]);
    return;
  }
  const versions = request.headers["x-stream-protocol-version"] ?? "";
  const version = versions.includes("portforward") ? "portforward.k8s.io" : "v4.channel.k8s.io";
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n" +
      `X-Stream-Protocol-Version: ${version}\r\n\r\n`,
  );
  const send = (bytes) => socket.write(bytes);
  const take = request.url.includes("/portforward") ? forward(send) : exec(query, send);
  socket.on("data", take);
  if (head.length > 0) take(head);
});
server.listen(Number(port), "127.0.0.1", () => console.log("listening"));
