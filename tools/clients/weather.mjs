// The conversation that clients have with the demo model: a question, a call of a tool, its result, and what is said of it.
import assert from "node:assert/strict";
import { z } from "zod";

export const url = process.env.GLIMMER_URL + "/v1";
export const question = "And what's the weather like in Oslo today?";
export const observed = { temperature: -4, condition: "snow" };

let called = [];

export const getWeather = {
  name: "get_weather",
  description: "Get the current weather in a city",
  parameters: z.object({ city: z.string().describe("The name of the city") }),
  run({ city }) {
    called.push(city);
    return observed;
  },
};

/** The tool was called once since the last check, for the city of the question. */
export function checkCalled() {
  assert.deepEqual(called, ["Oslo"]);
  called = [];
}

/** It was, and its result went back to the model. */
export function checkTold(text) {
  checkCalled();
  assert.match(text, /-4.*snow/);
}

/** The demo model knows no such form: that an answer has it is the server's doing. */
export const weather = z.object({
  city: z.enum(["Oslo", "Bergen"]),
  temperature: z.number().int().min(-9).max(9),
  condition: z.enum(["snow", "rain"]),
  wind: z.object({ speed: z.number().int().min(0).max(40), direction: z.enum(["north", "south"]) }).nullable(),
});
