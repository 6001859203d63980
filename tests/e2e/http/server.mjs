// A server of HTTP/1.1 and HTTP/2 that writes down what arrives: one line of JSON for each request.
// usage: node server.mjs PORT LOG [CERTIFICATE KEY]
import { createHash } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createSecureServer } from "node:http2";

const [port, log, certificate, key] = process.argv.slice(2);
const JSON_TYPE = { "content-type": "application/json" };
const SECRET = { name: "Ann", ssn: "123-45-6789", email: "ann@example.com", cards: [{ number: "4111111111111111" }] };

function note(request, bytes) {
  const { method, url, headers, httpVersion } = request;
  appendFileSync(log, JSON.stringify({ method, url, httpVersion, headers, bytes }) + "\n");
}

function answer(request, response) {
  let bytes = 0;
  request.on("data", (piece) => (bytes += piece.length));
  request.on("end", () => {
    note(request, bytes);
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
    } else if (path === "/v1/picture") {
      response.writeHead(200, { "content-type": "image/png" });
      response.end(Buffer.from([1, 2, 3]));
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
  socket.on("error", () => {});
  socket.on("data", (frame) => {
    if ((frame[0] & 15) === 8) return socket.end();
    const length = frame[1] & 127;
    const mask = frame.subarray(2, 6);
    const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]);
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
}

const server = certificate
  ? createSecureServer({ allowHTTP1: true, cert: readFileSync(certificate), key: readFileSync(key) }, answer)
  : createServer(answer);
server.on("upgrade", upgrade);
server.listen(Number(port), "127.0.0.1", () => console.log("listening"));
