// The OpenAI client for Node over /v1/responses, against a Glimmer server at GLIMMER_URL: items, events, tools, types, what the
// server keeps.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { checkTold, getWeather, question, url, weather } from "./weather.mjs";

const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const asked = { model: "demo", temperature: 0 };
const tools = [zodResponsesFunction({ ...getWeather, function: getWeather.run })];
const result = (call) => ({
  type: "function_call_output",
  call_id: call.call_id,
  output: JSON.stringify(getWeather.run(JSON.parse(call.arguments))),
});

const ways = {
  whole: (body) => client.responses.create(body),
  parsed: (body) => client.responses.parse(body),
  streamed: (body) => client.responses.stream(body).finalResponse(),
  async raw(body) {
    let text = "";
    let last;
    for await (const event of await client.responses.create({ ...body, stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(last.type, "response.completed");
    const said = last.response.output.flatMap((item) => item.content ?? []).map((part) => part.text);
    assert.equal(said.join(""), text);
    return { ...last.response, output_text: text };
  },
};
for (const [name, ask] of Object.entries(ways)) {
  const first = await ask({ ...asked, input: question, tools });
  const [call] = first.output;
  assert.equal(call.name, "get_weather");
  if (name === "parsed" || name === "streamed") assert.deepEqual(call.parsed_arguments, { city: "Oslo" });
  checkTold((await ask({ ...asked, input: [result(call)], previous_response_id: first.id, tools })).output_text);
  delete call.parsed_arguments;
  const history = [{ role: "user", content: question }, call, result(call)];
  checkTold((await ask({ ...asked, input: history, tools, store: false })).output_text);
}

// Answers of a type.
const typed = { ...asked, input: question, text: { format: zodTextFormat(weather, "weather") } };
const form = (await client.responses.parse(typed)).output_parsed;
assert.deepEqual(weather.parse(form), form);
assert.deepEqual((await client.responses.stream(typed).finalResponse()).output_parsed, form);

// What is kept, and what is not any more.
const response = await client.responses.create({ ...asked, input: "Hello!", metadata: { a: "b" } });
assert.deepEqual((await client.responses.retrieve(response.id)).output, response.output);
const items = [];
for await (const item of client.responses.inputItems.list(response.id)) items.push(item.content[0].text);
assert.deepEqual(items, ["Hello!"]);
await client.responses.delete(response.id);
await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
const long = await client.responses.create({ ...asked, input: "Hello!", background: true, ignore_eos: true });
assert.equal((await client.responses.cancel(long.id)).status, "cancelled");
console.log("responses of openai for Node: good");
