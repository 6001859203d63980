// A server of HTTP/1.1 and HTTP/2 that writes down what arrives: one line of JSON for each request.
// usage: node server.mjs PORT LOG [CERTIFICATE KEY [sockets]]; with `sockets` they are taken on streams of HTTP/2, too
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createSecureServer } from "node:http2";
import { dirname, join } from "node:path";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";

const [port, log, certificate, key, sockets] = process.argv.slice(2);
const JSON_TYPE = { "content-type": "application/json" };
const SECRET = { name: "Ann", ssn: "123-45-6789", email: "ann@example.com", cards: [{ number: "4111111111111111" }] };

function note(request, bytes, body) {
  const { method, url, headers, trailers, httpVersion } = request;
  const from = request.socket.remotePort;
  appendFileSync(log, JSON.stringify({ method, url, httpVersion, headers, trailers, bytes, body, from }) + "\n");
}

// All that arrived, in the ways in which servers show it.
const SHOWN = {
  json: (seen) => JSON.stringify(seen),
  nested: (seen) => JSON.stringify({ log: JSON.stringify(seen).replaceAll("/", "\\/") }),
  html: (seen) => seen.flat().join("\n").replace(/[&<>"'/=+]/g, (c) => `&#x${c.charCodeAt(0).toString(16)};`),
  percent: (seen) => seen.flat().map(encodeURIComponent).join("&"),
  form: (seen) => new URLSearchParams(seen).toString().replace(/%[0-9A-F]{2}/g, (c) => c.toLowerCase()),
  base64: (seen) => ["", "1", "22"].map((pad) => Buffer.from(pad + seen.flat().join(" ")).toString("base64")).join(" "),
  lines: (seen) => Buffer.from(seen.flat().join(" ")).toString("base64").replace(/.{76}/g, "$&\r\n"),
  hex: (seen) => Buffer.from(seen.flat().join(" ")).toString("hex"),
  upper: (seen) => seen.flat().join(" ").toUpperCase(),
  utf16: (seen) => Buffer.from(seen.flat().join(" "), "utf16le"),
};

// A server that shows what it was given: in headers, status, trailers and body, however the path says.
function show(request, response, how) {
  const headers = Object.entries(request.headers).map(([name, value]) => [name, String(value)]);
  const seen = [["url", request.url], ...headers];
  const known = ["authorization", "x-key", "cookie"].map((name) => request.headers[name]).find(Boolean);
  const credential = known ?? request.url;
  if (how === "early") {
    response.writeEarlyHints({ link: `</${encodeURIComponent(credential)}>; rel=preload` });
  }
  if (how === "redirect") {
    response.writeHead(302, { location: `https://elsewhere.example/?next=${encodeURIComponent(request.url)}&token=${encodeURIComponent(credential)}` });
    return response.end();
  }
  const coding = how === "gzip" ? { "content-encoding": "gzip" } : {};
  if (request.httpVersionMajor === 1) response.statusMessage = `shown ${credential}`;
  const body = Buffer.from((SHOWN[how] ?? SHOWN.json)(seen));
  const sized = how === "sized" ? { "content-length": body.length } : { trailer: "x-shown" };
  response.writeHead(200, { "content-type": "text/plain", "x-shown": credential, ...coding, ...sized });
  if (how === "gzip") return response.end(gzipSync(body));
  if (how !== "sized") response.addTrailers({ "x-shown": credential });
  if (how === "dribble") for (const byte of body) response.write(Buffer.from([byte]));
  else response.write(body);
  response.end();
}

// Answers that are compressed whatever was asked for.
function packed(request, response, how) {
  const known = request.headers.authorization;
  const said = Buffer.from(JSON.stringify({ customers: [SECRET], known }));
  const rows = {
    gzip: ["gzip", () => gzipSync(said)],
    deflate: ["deflate", () => deflateSync(said)],
    br: ["br", () => brotliCompressSync(said)],
    bomb: ["gzip", () => gzipSync(Buffer.from(`"${"0".repeat(64 << 20)}"`))],
    twice: ["gzip, gzip", () => gzipSync(gzipSync(said))],
  };
  const [coding, pack] = rows[how];
  response.writeHead(200, { ...JSON_TYPE, "content-encoding": coding });
  response.end(pack());
}

// Repositories beside the log, as git's own program serves them (git-http-backend(1)).
function git(request, response) {
  note(request, 0);
  const url = new URL(request.url, "http://localhost");
  const said = (name) => request.headers[name] ?? "";
  const env = {
    PATH: process.env.PATH,
    GIT_PROJECT_ROOT: join(dirname(log), "git"),
    GIT_HTTP_EXPORT_ALL: "1",
    PATH_INFO: url.pathname.slice("/v1/git".length),
    QUERY_STRING: url.search.slice(1),
    REQUEST_METHOD: request.method,
    CONTENT_TYPE: said("content-type"),
    HTTP_CONTENT_ENCODING: said("content-encoding"),
    HTTP_GIT_PROTOCOL: said("git-protocol"),
    REMOTE_USER: "agent",
  };
  const backend = spawn("git", ["http-backend"], { env, stdio: ["pipe", "pipe", "inherit"] });
  backend.stdin.on("error", () => {});
  request.pipe(backend.stdin);
  let head = Buffer.alloc(0);
  const first = (piece) => {
    head = Buffer.concat([head, piece]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    backend.stdout.off("data", first);
    const lines = head.subarray(0, end).toString().split("\r\n").map((line) => line.split(": "));
    const { Status: status = "200", ...headers } = Object.fromEntries(lines);
    response.writeHead(Number.parseInt(status, 10), headers);
    response.write(head.subarray(end + 4));
    backend.stdout.pipe(response);
  };
  backend.stdout.on("data", first);
}

function answer(request, response) {
  if (request.url.startsWith("/v1/git/")) return git(request, response);
  let bytes = 0;
  // The end of a long body says enough of it.
  let body = Buffer.alloc(0);
  request.on("error", () => {});
  request.on("data", (piece) => {
    bytes += piece.length;
    body = Buffer.concat([body, piece]).subarray(-4096);
  });
  request.on("end", () => {
    note(request, bytes, body.toString());
    const path = request.url.split("?")[0];
    if (path === "/v1/customers") {
      response.writeHead(200, { ...JSON_TYPE, "set-cookie": "session=upstream", "x-kept": "yes" });
      response.end(JSON.stringify({ customers: [SECRET, SECRET], count: 2 }));
    } else if (path === "/v1/events") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      let sent = 0;
      const send = () => {
        response.write(`data: ${JSON.stringify({ at: sent, ...SECRET })}\n\n`);
        sent += 1;
        if (sent < 3) setTimeout(send, 20);
        else response.end();
      };
      send();
    } else if (path === "/v1/big") {
      response.writeHead(200, { "content-type": "application/octet-stream" });
      const piece = Buffer.alloc(1 << 16, "x");
      let left = 512;
      const more = () => {
        while (left > 0) {
          left -= 1;
          if (!response.write(piece)) return response.once("drain", more);
        }
        response.end();
      };
      more();
    } else if (path === "/v1/table") {
      const header = new URL(request.url, "http://localhost").searchParams.get("header");
      response.writeHead(200, { "content-type": `text/csv; charset=utf-8${header ? `; header=${header}` : ""}` });
      response.write('name,email,ssn\r\n"Ann, A.",ann@example.com,"123-');
      response.end('45-6789"\r\nBob,bob@example.com,123-45-6789');
    } else if (path === "/v1/picture") {
      response.writeHead(200, { "content-type": "image/png" });
      response.end(Buffer.from([1, 2, 3]));
    } else if (path === "/v1/told") {
      const who = "ann@example.com";
      const told = { location: `/u?email=${encodeURIComponent(who)}&a=b`, link: `</u?after=${who}>; rel="next"` };
      if (request.httpVersionMajor === 1) response.statusMessage = `See ${who}`;
      response.writeHead(303, { ...JSON_TYPE, ...told, "x-user": who, etag: '"1"', trailer: "x-last" });
      response.write("{}");
      response.addTrailers({ "x-last": who });
      response.end();
    } else if (path === "/v1/orders/guarded") {
      const known = request.headers.authorization === "Bearer issued-token-number-2";
      response.writeHead(known ? 200 : 401, { "content-type": "text/plain" });
      response.end();
    } else if (path.startsWith("/v1/packed/")) {
      packed(request, response, path.slice("/v1/packed/".length));
    } else if (path.startsWith("/v1/shown/")) {
      show(request, response, path.slice("/v1/shown/".length));
    } else {
      response.writeHead(200, { "content-type": "text/plain" });
      response.end(`${request.method} ${path} ${bytes}\n`);
    }
  });
}

// A WebSocket that gives each short text back (RFC 6455).
function upgrade(request, socket) {
  note(request, 0);
  const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + guid).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  talk(request, socket);
}

// The same on a stream (RFC 8441).
function connect(request, response) {
  note(request, 0, request.headers[":protocol"]);
  response.stream.respond({ ":status": request.url === "/v1/socket" ? 200 : 404 });
  talk(request, response.stream);
}

function talk(request, socket) {
  socket.on("error", () => {});
  socket.on("data", (frame) => {
    if ((frame[0] & 15) === 8) return socket.end();
    const length = frame[1] & 127;
    const mask = frame.subarray(2, 6);
    const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]);
    if (text.toString() === "show") {
      // In pieces of five bytes, with a ping between two of them.
      const shown = Buffer.from(JSON.stringify(request.headers));
      for (let at = 0; at < shown.length; at += 5) {
        const piece = shown.subarray(at, at + 5);
        const last = at + 5 >= shown.length ? 0x80 : 0;
        socket.write(Buffer.concat([Buffer.from([last | (at === 0 ? 1 : 0), piece.length]), piece]));
        if (at === 5) socket.write(Buffer.from([0x89, 2, 0x68, 0x69]));
      }
      return;
    }
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
}

const server = certificate
  ? createSecureServer(
      {
        allowHTTP1: true,
        cert: readFileSync(certificate),
        key: readFileSync(key),
        settings: { enableConnectProtocol: sockets === "sockets" },
      },
      answer,
    )
  : createServer(answer);
server.on("upgrade", upgrade);
server.on("connect", connect);
server.listen(Number(port), "127.0.0.1", () => console.log("listening"));
