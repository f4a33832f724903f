// Pictures through Vercel's AI SDK and the OpenAI client for Node, against a tiny model that sees at GLIMMER_URL, called `eye`.
// Usage: pictures_client.mjs PICTURE
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const url = `${process.env.GLIMMER_URL}/v1`;
const bytes = readFileSync(process.argv[2]);
const question = "What is it?";

const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const image_url = { url: `data:image/png;base64,${bytes.toString("base64")}` };
const content = [{ type: "image_url", image_url }, { type: "text", text: question }];
const answer = await client.chat.completions.create({ model: "eye", temperature: 0, max_tokens: 8, messages: [{ role: "user", content }] });
const told = answer.choices[0].message.content;

const model = createOpenAICompatible({ name: "glimmer", baseURL: url })("eye");
const parts = [{ type: "image", image: bytes, mediaType: "image/png" }, { type: "text", text: question }];
const asked = { model, temperature: 0, maxOutputTokens: 8, maxRetries: 0, messages: [{ role: "user", content: parts }] };
const whole = await generateText(asked);
assert.equal(whole.text, told);
assert.equal(whole.usage.inputTokens, answer.usage.prompt_tokens);
assert.equal(await streamText(asked).text, told);
console.log("pictures: the AI SDK is told the same");
