#!/usr/bin/env bash
# Vercel's AI SDK (ai 7.0.173 with @ai-sdk/openai-compatible 3.0.92, ai 6.0.326 with 2.0.92): for an object of a schema a
# provider made by `createOpenAICompatible({ name, baseURL })` sends `response_format: {"type": "json_object"}` and the prompt
# as it is. The schema is nowhere in the request, neither as a format nor in words; the result has a warning of it.
#
# Expected before: that the model is told the schema one way or the other. Without `supportsStructuredOutputs: true` no server
# can give such a client an object of its type but by luck.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund ai@7.0.173 @ai-sdk/openai-compatible@3.0.92 zod@4.6.7 \
  ai-6@npm:ai@6.0.326 @ai-sdk/openai-compatible-6@npm:@ai-sdk/openai-compatible@2.0.92
cat >sent.mjs <<'P'
import assert from "node:assert/strict";
import * as compatible7 from "@ai-sdk/openai-compatible";
import * as compatible6 from "@ai-sdk/openai-compatible-6";
import * as ai7 from "ai";
import * as ai6 from "ai-6";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
let sent;

async function fetch(_, { body }) {
  sent = body;
  const message = { role: "assistant", content: '{"colour": "red"}' };
  const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
  const choices = [{ index: 0, message, finish_reason: "stop" }];
  return Response.json({ id: "1", object: "chat.completion", created: 1, model: "m", choices, usage });
}

for (const [version, ai, { createOpenAICompatible }] of [[6, ai6, compatible6], [7, ai7, compatible7]]) {
  for (const settings of [{}, { supportsStructuredOutputs: true }]) {
    const model = createOpenAICompatible({ name: "server", baseURL: "http://server/v1", fetch, ...settings })("m");
    const output = ai.Output.object({ schema: z.object({ colour: z.enum(["red", "blue"]) }) });
    const { warnings } = await ai.generateText({ model, output, prompt: "Which?", maxRetries: 0 });
    console.log(`ai ${version}`, settings, sent, warnings);
    assert.equal(/colour/.test(sent), "supportsStructuredOutputs" in settings, "it has changed");
    assert.equal(warnings.length, "supportsStructuredOutputs" in settings ? 0 : 1, "it has changed");
  }
}
P
node sent.mjs
