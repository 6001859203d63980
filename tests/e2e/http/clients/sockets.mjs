// WebSockets on streams of HTTP/2 (RFC 8441). usage: node sockets.mjs HOST:PORT AUTHORITY PROTOCOL PATH WORD…
// A word `get:PATH` is asked for before.
import { readFileSync } from "node:fs";
import { connect } from "node:http2";

const [place, ca, protocol, path, ...words] = process.argv.slice(2);
const session = connect(`https://${place}`, { ca: readFileSync(ca) });
await new Promise((known) => session.once("remoteSettings", known));
console.log("offered", session.remoteSettings.enableConnectProtocol);

async function get(path) {
  const stream = session.request({ ":path": path });
  const [headers] = await new Promise((known) => stream.once("response", (...said) => known(said)));
  for await (const _piece of stream);
  console.log("got", headers[":status"]);
}

function frame(text) {
  const mask = Buffer.from([1, 2, 3, 4]);
  const said = Buffer.from(text).map((byte, at) => byte ^ mask[at % 4]);
  return Buffer.concat([Buffer.from([0x81, 0x80 | said.length]), mask, said]);
}

for (const word of words.filter((word) => word.startsWith("get:"))) await get(word.slice(4));
const stream = session.request(
  { ":method": "CONNECT", ":protocol": protocol, ":path": path, "sec-websocket-version": "13", origin: `https://${place}` },
  { endStream: false },
);
const [headers] = await new Promise((known) => stream.once("response", (...said) => known(said)));
const odd = ["connection", "upgrade", "sec-websocket-accept"].filter((name) => name in headers);
console.log("status", headers[":status"], ...odd);
let heard = Buffer.alloc(0);
let more = () => {};
stream.on("data", (piece) => {
  heard = Buffer.concat([heard, piece]);
  more();
});
stream.on("error", () => {});
const ended = new Promise((known) => stream.once("close", known));
if (headers[":status"] !== 200) {
  await ended;
  console.log("told", heard.toString());
} else {
  for (const word of words.filter((word) => !word.startsWith("get:"))) {
    heard = Buffer.alloc(0);
    stream.write(frame(word));
    // Whole messages: the last frame of one has its first bit.
    const isWhole = () => {
      let at = 0;
      let text = "";
      while (at + 2 <= heard.length && at + 2 + (heard[at + 1] & 127) <= heard.length) {
        const length = heard[at + 1] & 127;
        if ((heard[at] & 8) === 0) text += heard.subarray(at + 2, at + 2 + length);
        if ((heard[at] & 0x88) === 0x80) return text;
        at += 2 + length;
      }
      return undefined;
    };
    await new Promise((known) => {
      more = () => isWhole() !== undefined && known();
      more();
    });
    console.log("heard", isWhole());
  }
  stream.end(Buffer.from([0x88, 0x80, 1, 2, 3, 4]));
  await ended;
  console.log("closed");
}
// The connection goes on.
await get("/v1/customers");
session.close();
