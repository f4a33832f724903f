// The Anthropic client for Node against a Glimmer server at GLIMMER_URL: tools, streams, types, counts, errors. With the argument
// `thinking` the model reasons in GLM-4.7's chat format.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { checkTold, getWeather, question, weather } from "./weather.mjs";

const client = new Anthropic({ baseURL: process.env.GLIMMER_URL, apiKey: "none", maxRetries: 0 });
const model = "demo";

async function demo() {
  const asked = { model, max_tokens: 200, temperature: 0 };
  const { name, description, parameters } = getWeather;
  const tools = [{ name, description, input_schema: z.toJSONSchema(parameters) }];
  const whole = (messages) => client.messages.create({ ...asked, messages, tools });
  const streamed = async (messages) => {
    const stream = client.messages.stream({ ...asked, messages, tools });
    let text = "";
    let input;
    stream.on("text", (more) => (text += more)).on("inputJson", (_, snapshot) => (input = snapshot));
    const message = await stream.finalMessage();
    if (message.stop_reason === "tool_use") assert.deepEqual(input, message.content[0].input);
    else assert.equal(text, message.content[0].text);
    return message;
  };
  for (const ask of [whole, streamed]) {
    const messages = [{ role: "user", content: question }];
    const message = await ask(messages);
    assert.equal(message.stop_reason, "tool_use");
    const [call] = message.content;
    const counted = await client.messages.countTokens({ model, messages, tools });
    assert.equal(counted.input_tokens, message.usage.input_tokens + message.usage.cache_read_input_tokens);
    const result = { type: "tool_result", tool_use_id: call.id, content: JSON.stringify(getWeather.run(call.input)) };
    messages.push({ role: "assistant", content: message.content }, { role: "user", content: [result] });
    const told = await ask(messages);
    assert.equal(told.stop_reason, "end_turn");
    checkTold(told.content[0].text);
  }

  // The client's own loop.
  const run = (input) => JSON.stringify(getWeather.run(input));
  const tool = betaZodTool({ name, description, inputSchema: parameters, run });
  for (const stream of [false, true]) {
    const runner = client.beta.messages.toolRunner({ ...asked, messages: [{ role: "user", content: question }], tools: [tool], stream });
    checkTold((await runner.runUntilDone()).content[0].text);
  }

  // An answer of a type.
  const typed = { ...asked, messages: [{ role: "user", content: question }], output_config: { format: zodOutputFormat(weather) } };
  const parsed = (await client.messages.parse(typed)).parsed_output;
  assert.ok(weather.parse(parsed));
  assert.deepEqual((await client.messages.stream(typed).finalMessage()).parsed_output, parsed);

  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  assert.ok(names.includes(model));
  const messages = [{ role: "user", content: "Hello!" }];
  await assert.rejects(client.messages.create({ ...asked, messages, model: "claude" }), (error) => {
    return error instanceof Anthropic.NotFoundError && error.requestID && error.error.error.type === "not_found_error";
  });
  const image = [{ type: "image", source: { type: "url", url: "https://example.org/x.png" } }];
  await assert.rejects(client.messages.create({ ...asked, messages: [{ role: "user", content: image }] }), Anthropic.BadRequestError);
}

/** Thoughts are a block of their own, whole and in pieces. */
async function thinking() {
  const asked = { model, max_tokens: 12, temperature: 0, messages: [{ role: "user", content: "Hello!" }] };
  const more = { ...asked, thinking: { type: "enabled", budget_tokens: 1024 } };
  const message = await client.messages.create(more);
  // The demo model was never taught to reason, so it does not find the end of it.
  assert.ok(message.stop_reason === "max_tokens" && message.content[0].thinking && message.content[0].signature);
  const stream = client.messages.stream(more);
  let thoughts = "";
  let signature;
  stream.on("thinking", (more) => (thoughts += more)).on("signature", (whole) => (signature = whole));
  await stream.finalMessage();
  assert.ok(thoughts === message.content[0].thinking && signature);
  const none = await client.messages.create({ ...asked, thinking: { type: "disabled" } });
  assert.equal(none.content[0].type, "text");
}

await (process.argv[2] === "thinking" ? thinking() : demo());
console.log("@anthropic-ai/sdk for Node: good");
