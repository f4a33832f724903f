// Vercel's AI SDK, both of its generations, against a Glimmer server at GLIMMER_URL. With `thinking` as argument, the server's
// model reasons in GLM-4.7's chat format.
import assert from "node:assert/strict";
import * as compatible7 from "@ai-sdk/openai-compatible";
import * as compatible6 from "@ai-sdk/openai-compatible-6";
import * as ai7 from "ai";
import * as ai6 from "ai-6";
import { checkCalled, checkTold, getWeather, question, url, weather } from "./weather.mjs";

// It tells that parts of it are to go.
globalThis.AI_SDK_LOG_WARNINGS = false;
process.noDeprecation = true;

const described = { description: getWeather.description, inputSchema: getWeather.parameters };

/** A question, the tool for it, and calls of it until there is an answer. */
function steps(ai, asked) {
  const get_weather = ai.tool({ ...described, execute: getWeather.run });
  return { ...asked, prompt: question, tools: { get_weather }, stopWhen: (ai.isStepCount ?? ai.stepCountIs)(4) };
}

async function tools(ai, asked) {
  const loop = steps(ai, asked);
  const whole = await ai.generateText(loop);
  checkTold(whole.text);
  assert.deepEqual(whole.steps.map((step) => step.finishReason), ["tool-calls", "stop"]);
  assert.deepEqual(whole.steps[0].toolCalls.map(({ toolName, input }) => [toolName, input]), [["get_weather", { city: "Oslo" }]]);
  assert.ok(whole.totalUsage.outputTokens > 0);

  const stream = ai.streamText(loop);
  const types = [];
  for await (const part of stream.fullStream) types.push(part.type);
  checkTold(await stream.text);
  for (const type of ["tool-input-start", "tool-input-end", "tool-call", "tool-result"]) {
    assert.equal(types.filter((other) => other === type).length, 1, types.join());
  }
  for (const type of ["tool-input-delta", "text-delta"]) assert.ok(types.filter((other) => other === type).length > 2);
  assert.equal((await stream.totalUsage).outputTokens, whole.totalUsage.outputTokens);
  const must = { ...asked, prompt: "Hello!", tools: { get_weather: ai.tool(described) } };
  for (const toolChoice of ["required", { type: "tool", toolName: "get_weather" }]) {
    const { toolCalls } = await ai.generateText({ ...must, toolChoice });
    assert.equal(typeof getWeather.parameters.parse(toolCalls[0].input).city, "string");
  }
}

async function forms(ai, asked) {
  const { object, usage } = await ai.generateObject({ ...asked, prompt: question, schema: weather });
  assert.deepEqual(weather.parse(object), object);
  assert.ok(usage.outputTokens > 0);
  const output = ai.Output.object({ schema: weather });
  assert.deepEqual((await ai.generateText({ ...asked, prompt: question, output })).output, object);
  const stream = ai.streamText({ ...asked, prompt: question, output });
  let last;
  for await (const partial of stream.partialOutputStream) last = partial;
  assert.deepEqual(last, object);
  // A tool and a type at once, the tool in the first step alone: the demo model would go on with it.
  const prepareStep = ({ stepNumber }) => (stepNumber > 0 ? { activeTools: [] } : {});
  const both = { ...steps(ai, asked), output, prepareStep };
  const typed = (await ai.generateText(both)).output;
  assert.deepEqual(weather.parse(typed), typed);
  checkCalled();
  const { output: streamed } = ai.streamText(both);
  assert.deepEqual(await streamed, typed);
  checkCalled();
}

async function reasoning(ai, asked) {
  const thinking = { ...asked, prompt: "Hello!", maxOutputTokens: 12 };
  const { reasoningText, text, finishReason } = await ai.generateText(thinking);
  // The demo model was never taught to reason, so it does not find the end of it.
  assert.ok(reasoningText && text === "" && finishReason === "length");
  let streamed = "";
  for await (const part of ai.streamText(thinking).fullStream) if (part.type === "reasoning-delta") streamed += part.text;
  assert.equal(streamed, reasoningText);
  const providerOptions = { glimmer: { reasoningEffort: "none" } };
  const none = await ai.generateText({ ...thinking, providerOptions });
  assert.ok(none.text && !none.reasoningText);
}

for (const [version, ai, { createOpenAICompatible }] of [[6, ai6, compatible6], [7, ai7, compatible7]]) {
  const glimmer = createOpenAICompatible({ name: "glimmer", baseURL: url, includeUsage: true, supportsStructuredOutputs: true });
  const asked = { model: glimmer("demo"), temperature: 0, maxRetries: 0 };
  if (process.argv[2] === "thinking") {
    await reasoning(ai, asked);
    console.log(`reasoning with ai ${version}: good`);
  } else {
    await tools(ai, asked);
    await forms(ai, asked);
    console.log(`ai ${version}: good`);
  }
}
