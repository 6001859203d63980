// Node's own clients: of both versions of HTTP.
import { connect } from "node:http2";

const base = process.argv[2];
const says = (client, status, text) => console.log(client, status, text.includes("Ann"));

const answer = await fetch(`${base}/v1/customers`);
says("fetch", answer.status, await answer.text());

const pieces = new ReadableStream({
  start(to) {
    to.enqueue(new Uint8Array(70000));
    to.enqueue(new Uint8Array(1));
    to.close();
  },
});
const sent = await fetch(`${base}/v1/orders`, { method: "POST", body: pieces, duplex: "half" });
console.log("fetch streams", (await sent.text()).trim());

const session = connect(base);
const request = session.request({ ":path": "/v1/customers" });
let [status, text] = [0, ""];
request.on("response", (headers) => (status = headers[":status"]));
request.on("data", (piece) => (text += piece));
request.on("end", () => {
  says("http2", status, text);
  session.close();
});
