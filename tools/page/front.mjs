// A server in front of `glimmer serve`: it hands everything through, but answers what the demo model cannot be brought to say.
// A question that begins with `!` names a script below; the rest of it is the script's text.

import http from 'node:http';

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** How many tokens of a text there are, roughly. */
const pieces = (text) => text.match(/\s*\S{1,6}|\s+/g) ?? [];

/** Scripts yield deltas of the API; numbers are milliseconds of silence. */
const SCRIPTS = {
  async* say(text) {
    for (const piece of pieces(text)) yield { content: piece };
  },
  async* slowly(text) {
    for (const piece of pieces(text)) {
      yield { content: piece };
      yield 60;
    }
  },
  async* think(text) {
    for (const piece of pieces('The user wants an answer. I weigh what is known, and decide.')) {
      yield { reasoning_content: piece };
      yield 30;
    }
    yield* SCRIPTS.say(text);
  },
  async* call(text) {
    yield { tool_calls: [{ index: 0, id: 'call_1', type: 'function', function: { name: 'weather', arguments: '' } }] };
    for (const piece of pieces(text)) yield { tool_calls: [{ index: 0, function: { arguments: piece } }] };
    yield { end: 'tool_calls' };
  },
  /** Tokens at a steady rate: `rate count text`. */
  async* rate(text) {
    const [, rate, count, words] = text.match(/^(\d+) (\d+) ([^]*)$/);
    const all = pieces(words);
    const start = performance.now();
    for (let sent = 0; sent < Number(count);) {
      const due = Math.min(Number(count), ((performance.now() - start) * Number(rate)) / 1000);
      for (; sent < due; sent += 1) yield { content: all[sent % all.length] };
      yield 4;
    }
  },
  async* prompt(text) {
    for (let done = 0; done <= 100; done += 10) {
      yield { progress: { total: 100, cache: 0, processed: done, time_ms: done * 100 } };
      yield 50;
    }
    yield* SCRIPTS.say(text);
  },
  async* wait(ms) {
    yield Number(ms);
    yield { content: 'Done.' };
  },
  async* length(text) {
    yield* SCRIPTS.say(text);
    yield { end: 'length' };
  },
};

export class Front {
  /** @param {string} backend address of `glimmer serve` */
  constructor(backend) {
    this.backend = new URL(backend);
    /** Bodies of requests for answers, newest last. */
    this.asked = [];
    /** Whether its models are said to see. */
    this.sees = false;
  }

  /** Begins, or comes back where it was. */
  async start() {
    this.server = http.createServer((request, response) => this.answer(request, response));
    await new Promise((resolve) => { this.server.listen(this.port ?? 0, '127.0.0.1', resolve); });
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
  }

  /** As if the server were killed: every connection ends. */
  async kill() {
    const closed = new Promise((resolve) => { this.server.close(resolve); });
    this.server.closeAllConnections();
    await closed;
  }

  async answer(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (request.method === 'POST' && request.url === '/v1/chat/completions') {
      const asked = JSON.parse(body);
      this.asked.push(asked);
      const script = this.script(asked);
      if (script) return this.play(script, response);
    }
    if (request.url === '/v1/models' && this.sees) return this.listSeeing(response);
    this.handThrough(request, response, body);
  }

  script({ messages, add_generation_prompt: opens }) {
    const content = messages.findLast((one) => one.role === 'user')?.content ?? '';
    const question = typeof content === 'string' ? content : content.find((part) => part.type === 'text').text;
    const last = messages.at(-1);
    if (last.role === 'tool') return SCRIPTS.say(`It returned ${last.content}.`);
    if (opens === false && question.startsWith('!')) return SCRIPTS.say(' and the rest.');
    // Files stand before what was asked.
    const own = question.startsWith('[File Name]') ? question.slice(question.lastIndexOf('\n\n!') + 2) : question;
    const [, name, text] = own.match(/^!(\w+) ?([^]*)$/) ?? [];
    return SCRIPTS[name]?.(text);
  }

  async play(script, response) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    let count = 0;
    const send = (choice, more = {}) => response.write(`data: ${JSON.stringify({
      id: 'x', object: 'chat.completion.chunk', choices: choice ? [{ index: 0, delta: {}, finish_reason: null, ...choice }] : [],
      usage: { prompt_tokens: 20, completion_tokens: count, total_tokens: 20 + count, prompt_tokens_details: { cached_tokens: 8 } }, ...more,
    })}\n\n`);
    let end = 'stop';
    for await (const step of script) {
      if (response.destroyed) return;
      if (typeof step === 'number') await wait(step);
      else if (step.end) end = step.end;
      else if (step.progress) send(null, { prompt_progress: step.progress });
      else {
        count += 1;
        send({ delta: step });
      }
    }
    send({ finish_reason: end });
    response.end('data: [DONE]\n\n');
  }

  async listSeeing(response) {
    const list = await (await fetch(new URL('/v1/models', this.backend))).json();
    for (const model of list.data) model.model_ability = [...(model.model_ability ?? []), 'vision'];
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(list));
  }

  handThrough({ method, url, headers }, response, body) {
    const { hostname: host, port } = this.backend;
    const request = http.request({ host, port, path: url, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    request.on('error', () => response.destroy());
    response.on('close', () => request.destroy());
    request.end(body);
  }
}
