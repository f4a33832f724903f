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

const tools = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the current weather in a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string", description: "The name of the city" } },
      required: ["city"],
    },
  },
}];
const conversation = [{ role: "user", content: "And what's the weather like in Oslo today?" }];
const called = await client.chat.completions.create({ model, messages: conversation, tools, temperature: 0 });
assert.equal(called.choices[0].finish_reason, "tool_calls");
assert.equal(called.choices[0].message.content, null);
assert.deepEqual(JSON.parse(called.choices[0].message.tool_calls[0].function.arguments), { city: "Oslo" });
const pieces = client.chat.completions.stream({ model, messages: conversation, tools, temperature: 0 });
const { message } = (await pieces.finalChatCompletion()).choices[0];
assert.deepEqual(message.tool_calls[0].function.arguments, called.choices[0].message.tool_calls[0].function.arguments);
// The helper that runs the tools and goes on.
let given;
const runner = client.chat.completions.runTools({
  model, messages: conversation, temperature: 0,
  tools: [{
    type: "function",
    function: {
      ...tools[0].function,
      parse: JSON.parse,
      function: ({ city }) => {
        given = city;
        return '{"temperature": -4, "condition": "snow"}';
      },
    },
  }],
});
assert.match(await runner.finalContent(), /-4.*snow/);
assert.equal(given, "Oslo");

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
