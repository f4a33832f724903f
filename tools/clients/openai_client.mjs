// The OpenAI client for Node against a Glimmer server at GLIMMER_URL.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.GLIMMER_URL + "/v1", apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Hello!" }];
const model = "demo";

const names = [];
for await (const one of client.models.list()) names.push(one.id);
assert.deepEqual(names, ["demo", "text2vec-bert"]);

const answer = await client.chat.completions.create({ model, messages, temperature: 0 });
const text = answer.choices[0].message.content;
assert.ok(text);
assert.equal(answer.choices[0].finish_reason, "stop");

let said = "";
let usage;
const stream = await client.chat.completions.create({
  model, messages, temperature: 0, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  said += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(said, text);
assert.equal(usage.completion_tokens, answer.usage.completion_tokens);

const helper = client.chat.completions.stream({ model, messages, temperature: 0 });
assert.equal(await helper.finalContent(), text);

const left = await client.chat.completions.create({ model, messages, stream: true });
for await (const _ of left) {
  left.controller.abort();
  break;
}

const logprobs = await client.chat.completions.create({
  model, messages, n: 2, seed: 3, max_tokens: 5, logprobs: true, top_logprobs: 2,
});
assert.equal(logprobs.choices.length, 2);
assert.equal(logprobs.choices[1].logprobs.content[0].top_logprobs.length, 2);

const plain = await client.completions.create({ model, prompt: "Once upon", max_tokens: 6, echo: true });
assert.ok(plain.choices[0].text.startsWith("Once upon"));
const batch = await client.completions.create({ model, prompt: [[5, 6], [7]], max_tokens: 3 });
assert.equal(batch.choices.length, 2);

const vectors = await client.embeddings.create({ model: "text2vec-bert", input: ["a", "b"] });
assert.equal(vectors.data.length, 2);
assert.ok(vectors.data[0].embedding.length > 0);

await assert.rejects(client.chat.completions.create({ model: "gpt-4o", messages }), (error) => {
  return error instanceof OpenAI.NotFoundError && error.code === "model_not_found";
});
await assert.rejects(client.chat.completions.create({ model, messages, temperature: -1 }), (error) => {
  return error instanceof OpenAI.BadRequestError && error.param === "temperature";
});
await assert.rejects(client.embeddings.create({ model, input: "x" }), OpenAI.BadRequestError);
console.log("openai for Node: good");
