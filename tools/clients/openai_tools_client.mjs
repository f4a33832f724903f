// The OpenAI client for Node with tools and with types, against a Glimmer server at GLIMMER_URL.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { checkTold, getWeather, observed, question, url, weather } from "./weather.mjs";

const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: question }];
const asked = { model: "demo", temperature: 0 };
const tool = zodFunction({ ...getWeather, function: getWeather.run });

// By hand, whole and from a stream.
const ways = {
  whole: (body) => client.chat.completions.create(body),
  parsed: (body) => client.chat.completions.parse(body),
  streamed: (body) => client.chat.completions.stream(body).finalChatCompletion(),
};
for (const [name, ask] of Object.entries(ways)) {
  const history = [...messages];
  const first = (await ask({ ...asked, messages: history, tools: [tool] })).choices[0];
  assert.equal(first.finish_reason, "tool_calls");
  // The helper of a stream makes an empty text of none.
  assert.equal(first.message.content, name === "streamed" ? "" : null);
  const [call] = first.message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  if (name !== "whole") assert.deepEqual(call.function.parsed_arguments, { city: "Oslo" });
  const content = JSON.stringify(getWeather.run(JSON.parse(call.function.arguments)));
  delete first.message.parsed;
  delete call.function.parsed_arguments;
  history.push(first.message, { role: "tool", tool_call_id: call.id, content });
  const last = (await ask({ ...asked, messages: history, tools: [tool] })).choices[0];
  assert.equal(last.finish_reason, "stop");
  checkTold(last.message.content);
}

// The helper that runs the tools and goes on.
for (const stream of [false, true]) {
  const runner = client.chat.completions.runTools({ ...asked, messages, tools: [tool], stream });
  const results = [];
  runner.on("functionToolCallResult", (result) => results.push(JSON.parse(result)));
  checkTold(await runner.finalContent());
  assert.deepEqual(results, [observed]);
  if (!stream) assert.ok((await runner.totalUsage()).completion_tokens > 0);
}

// Answers of a type.
const typed = { ...asked, messages, response_format: zodResponseFormat(weather, "weather") };
const answer = await client.chat.completions.parse(typed);
const form = answer.choices[0].message.parsed;
assert.deepEqual(weather.parse(form), form);
assert.ok(answer.usage.completion_tokens > 0);
const final = await client.chat.completions.stream({ ...typed, stream_options: { include_usage: true } }).finalChatCompletion();
assert.deepEqual(final.choices[0].message.parsed, form);
assert.equal(final.usage.completion_tokens, answer.usage.completion_tokens);

// A tool and a type at once: a call, and where that is over an answer of the type.
const both = { ...typed, tools: [tool] };
const { message } = (await client.chat.completions.parse(both)).choices[0];
const [call] = message.tool_calls;
assert.deepEqual([call.function.parsed_arguments, message.parsed], [{ city: "Oslo" }, null]);
delete message.parsed;
delete call.function.parsed_arguments;
const history = [...messages, message, { role: "tool", tool_call_id: call.id, content: JSON.stringify(observed) }];
const last = await client.chat.completions.parse({ ...both, messages: history, tool_choice: "none" });
assert.deepEqual(weather.parse(last.choices[0].message.parsed), last.choices[0].message.parsed);
console.log("tools and types of openai for Node: good");
