// OpenAI's Node.js client, unchanged, against a gateway: whole answers, streams, models and errors.
// Usage: node completions.mjs BASE_URL  -- prints one JSON object; the caller checks it.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const asked = { model: "gpt-3.5-turbo-instruct", prompt: "def add(a, b):\n", max_tokens: 16, temperature: 0 };

const whole = await client.completions.create(asked);
let streamed = "";
let usage = null;
const stream = await client.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  for (const choice of chunk.choices) streamed += choice.text;
  usage = chunk.usage ?? usage;
}

const models = [];
for await (const model of client.models.list()) models.push(model.id);

const errors = [];
for (const bad of [{ model: "nobody" }, { temperature: 9 }]) {
  try {
    await client.completions.create({ ...asked, ...bad });
    errors.push(null);
  } catch (error) {
    errors.push({ kind: error.constructor.name, status: error.status, code: error.code ?? null });
  }
}

const left = await client.completions.create({ ...asked, max_tokens: 400, stream: true });
for await (const _ of left) break; // breaking off aborts the request

console.log(JSON.stringify({ text: whole.choices[0].text, usage: whole.usage, streamed, streamedUsage: usage, models, errors }));
