// axios against a Glimmer server at GLIMMER_URL, in the way of the GLM API's own documentation: the history goes as one
// list of questions and answers in turn within a list, and a stream is read as it comes.
import assert from "node:assert/strict";
import axios from "axios";

const url = process.env.GLIMMER_URL;

async function chat(messages, stream = false) {
  let prompt = "";
  const history = [];
  for (const item of messages) {
    if (item.role === "assistant") {
      history.push(prompt, item.content);
      prompt = "";
    } else prompt += `${item.content}\n`;
  }
  const body = { prompt };
  if (history.length) body.history = [history];
  const path = stream ? "/chat-stream" : "/chat";
  return (await axios.post(url + path, body, { responseType: stream ? "stream" : "json" })).data;
}

const hello = [{ role: "user", content: "Hello!" }];
const reply = await chat(hello);
assert.deepEqual(Object.keys(reply).sort(), [
  "completion_tokens", "content", "model", "object", "prompt_tokens", "total_tokens",
]);
assert.equal(reply.object, "chat.completion");
const rounds = [];
for (const question of ["Hello!", "3 + 4?"]) rounds.push({ role: "user", content: question }, { role: "assistant", content: "ok" });
assert.ok((await chat([...rounds, { role: "user", content: "你好" }])).content !== undefined);

// A client replaces what it shows by each event: a parser of lines, as chunks may be cut anywhere.
let rest = "";
let shown = "";
for await (const chunk of await chat(hello, true)) {
  rest += chunk.toString();
  const lines = rest.split("\n");
  rest = lines.pop();
  for (const line of lines.filter((line) => line.startsWith("data:"))) {
    const event = JSON.parse(line.slice(5));
    assert.ok(event.content.startsWith(shown));
    shown = event.content;
  }
}
assert.ok(shown.length > 0);

const { tokenIds, tokens } = (await axios.post(url + "/tokenize", { prompt: "如果", max_length: 4096 })).data;
assert.ok(tokenIds.length > tokens.length);
const embedding = (await axios.post(url + "/embedding", { prompt: ["hello world", "hello GPT"] })).data;
assert.equal(embedding.data.length, 2);
assert.equal(embedding.model, "text2vec-large-chinese");
console.log(`axios ${axios.VERSION} with the GLM API: good`);
