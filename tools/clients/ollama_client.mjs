// The published client of Ollama for JavaScript, unchanged: conversations, tools, forms, reasoning, vectors, and what models
// there are. `thinking` as the only argument: a model that thinks.
import assert from "node:assert/strict";
import { Ollama } from "ollama";
import { checkCalled, getWeather, observed, question } from "./weather.mjs";

const client = new Ollama({ host: process.env.GLIMMER_URL });
const messages = [{ role: "user", content: question }];
const options = { temperature: 0, num_predict: 120 };
const ask = { model: "demo", messages, options };

async function together(stream) {
  let [content, thinking] = ["", ""];
  for await (const part of stream) {
    content += part.message.content;
    thinking += part.message.thinking ?? "";
  }
  return { content, thinking };
}

async function conversations() {
  const whole = await client.chat(ask);
  assert.ok(whole.done && whole.message.content && whole.eval_count > 0);
  const streamed = await together(await client.chat({ ...ask, stream: true }));
  assert.equal(streamed.content, whole.message.content);
  const generated = await client.generate({ model: "demo", prompt: question, options });
  assert.equal(generated.response, whole.message.content);
  const format = {
    type: "object",
    properties: { city: { enum: ["Bergen", "Moss"] } },
    required: ["city"],
    additionalProperties: false,
  };
  const formed = await client.chat({ ...ask, format });
  assert.match(JSON.parse(formed.message.content).city, /Bergen|Moss/);
  await assert.rejects(client.chat({ ...ask, model: "nobody" }), /model 'nobody' not found/);
}

async function tools() {
  const parameters = {
    type: "object",
    properties: { city: { type: "string", description: "The name of the city" } },
    required: ["city"],
  };
  const { name, description } = getWeather;
  const tools = [{ type: "function", function: { name, description, parameters } }];
  const called = await client.chat({ ...ask, tools });
  const [call] = called.message.tool_calls;
  assert.deepEqual(call.function.arguments, { city: "Oslo" });
  getWeather.run(call.function.arguments);
  checkCalled();
  const result = { role: "tool", tool_name: name, content: JSON.stringify(observed) };
  const told = await client.chat({ ...ask, messages: [...messages, called.message, result], tools });
  assert.match(told.message.content, /-4/);
}

async function models() {
  const { models } = await client.list();
  assert.ok(models.some((model) => model.name === "demo:latest"));
  const shown = await client.show({ model: "demo" });
  assert.ok(shown.capabilities.includes("completion") && shown.model_info["general.architecture"]);
  assert.ok((await client.ps()).models.length > 0);
  const { embeddings } = await client.embed({ model: "text2vec-bert", input: ["你好", "hello"] });
  assert.equal(embeddings.length, 2);
}

if (process.argv[2] === "thinking") {
  const thought = await client.chat({ ...ask, think: true });
  const streamed = await together(await client.chat({ ...ask, think: true, stream: true }));
  // Thoughts that are never closed are the answer, which a stream says again; what it sent as thoughts it cannot take back.
  const { content, thinking = content } = thought.message;
  assert.deepEqual(streamed, { content, thinking });
  await client.chat({ ...ask, think: false });
} else {
  await conversations();
  await tools();
  await models();
}
console.log("ollama for JavaScript: all as wanted");
