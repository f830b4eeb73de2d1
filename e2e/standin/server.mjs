// A GitHub to test against: remembers what it was told and checks both directions by GitHub's own OpenAPI description.
//
// Environment: STANDIN_HOST (127.0.0.1), STANDIN_PORT (0, the default, takes a free one), STANDIN_PREFIX (e.g. /api/v3,
// as on GitHub Enterprise Server), STANDIN_TETHERED=1 (end when standard input ends). Prints one line of JSON when it
// listens: {"url","control"}.
import crypto from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import addFormats from 'ajv-formats';
import { OpenAPIBackend } from 'openapi-backend';
import { createFaults } from './faults.mjs';
import { createGitHub, failure } from './github.mjs';

const API_VERSION = '2022-11-28';
const host = process.env.STANDIN_HOST ?? '127.0.0.1';
const prefix = process.env.STANDIN_PREFIX ?? '';
const api = new OpenAPIBackend({
  definition: JSON.parse(readFileSync(new URL('api.json', import.meta.url))),
  quick: true,
  ajvOpts: { strict: false, logger: false, allErrors: true },
  customizeAjv: (ajv) => addFormats(ajv),
});
const example = (operation, code) => structuredClone(api.mockResponseForOperation(operation, { code: String(code) }).mock);
const github = createGitHub({ example, base: () => base });
const faults = createFaults();
const journal = [];
let base = '';

for (const [operation, handler] of Object.entries(github.operations)) {
  api.register(operation, ({ request }, { auth }) =>
    handler({ params: request.params, query: request.query, body: request.requestBody ?? {}, auth }),
  );
}
api.register({
  notFound: () => failure(404, 'Not Found'),
  methodNotAllowed: () => failure(404, 'Not Found'),
  notImplemented: (call) => failure(501, `the stand-in has no ${call.operation.operationId}`),
  validationFail: (call, { entry }) => {
    entry.requestProblems.push(...call.validation.errors.map(sentence));
    return failure(422, `Invalid request.\n\n${entry.requestProblems.join('; ')}`);
  },
});
await api.init();

/** What tests and the demo call: GET answers, POST takes a JSON body. */
const control = {
  app: () => github.app(),
  deployments: () => github.state.deployments.map((one) => ({ ...one, statuses: github.state.statuses.get(one.id) })),
  fault: (fault) => faults.add(fault),
  faults: () => faults.list(),
  heal: () => faults.clear(),
  journal: () => journal,
  reset: () => {
    github.reset();
    faults.clear();
    journal.length = 0;
  },
  revoke: () => github.state.tokens.clear(),
  seed: (repository) => github.seed(repository),
  set: (values) => void Object.assign(github.state, values),
  state: () => ({ minted: github.state.minted, remaining: github.state.remaining, calls: journal.length }),
  verify: () => {
    const problems = journal.filter((entry) => problemsOf(entry).length);
    return { ok: problems.length === 0, calls: journal.length, problems };
  },
};

const server = http.createServer((request, response) => {
  serve(request, response).catch((error) => {
    if (!response.headersSent) response.writeHead(500, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ message: `the stand-in failed: ${error.stack}` }));
  });
});
// GitHub keeps idle connections for longer than Node's 5 s. Were they closed here just as a busy
// client asks, its call would be lost without a fault that anybody asked for.
server.keepAliveTimeout = 120_000;
server.listen(Number(process.env.STANDIN_PORT ?? 0), host, () => {
  const origin = `http://${host}:${server.address().port}`;
  base = `${origin}${prefix}`;
  console.log(JSON.stringify({ url: base, control: `${origin}/_ctl` }));
});
if (process.env.STANDIN_TETHERED === '1') process.stdin.on('end', () => process.exit(0)).resume();

async function serve(request, response) {
  const text = await bodyOf(request);
  if (request.url.startsWith('/_ctl/')) return answerControl(request.url.slice('/_ctl/'.length), text, response);

  const path = request.url.startsWith(`${prefix}/`) ? request.url.slice(prefix.length) : '/outside-of-the-prefix';
  const operation = operationOf(request.method, path);
  const entry = { method: request.method, path: request.url, operation, requestProblems: [], responseProblems: [] };
  journal.push(entry);
  checkHeaders(request.headers, entry);

  const fault = faults.take(operation, request.url);
  if (fault) entry.fault = fault.kind ?? fault.status ?? 'delay';
  if (faults.before(fault, request, response)) return undefined;

  const answer = await answerOf(request, path, text, entry);
  const sent = checked(answer, operation, entry);
  entry.status = sent.status;
  const headers = { ...standardHeaders(), ...answer.headers, ...(sent.text && { 'content-type': 'application/json; charset=utf-8' }) };
  if (fault?.delayMs) await new Promise((done) => setTimeout(done, fault.delayMs));
  if (faults.after(fault, request, response, { ...sent, headers })) return undefined;
  response.writeHead(sent.status, headers);
  return response.end(sent.text);
}

function answerControl(name, text, response) {
  const found = Object.hasOwn(control, name) ? control[name] : undefined;
  const result = found ? (found(text ? JSON.parse(text) : {}) ?? {}) : { message: `no control named ${name}` };
  const status = !found ? 404 : result.ok === false ? 409 : 200;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(result));
}

async function answerOf(request, path, text, entry) {
  const auth = github.authenticate(request.headers);
  if (!auth) return failure(401, 'Bad credentials');
  const { state } = github;
  if (state.resetAt * 1000 <= Date.now()) Object.assign(state, { remaining: 5000, resetAt: Math.ceil(Date.now() / 1000) + 3600 });
  state.remaining -= 1;
  if (state.remaining === -1 && state.resetSeconds) state.resetAt = Math.ceil(Date.now() / 1000) + state.resetSeconds;
  if (state.remaining < 0) return failure(403, 'API rate limit exceeded for installation ID 5.');
  const body = text ? JSON.parse(text) : undefined;
  return api.handleRequest({ method: request.method, path: encodeTail(path), body, headers: request.headers }, { auth, entry });
}

/** Checks a good answer against the description; 599 marks a defect of the stand-in itself. */
function checked(answer, operation, entry) {
  const text = answer.body === undefined ? '' : JSON.stringify(answer.body).replaceAll('https://api.github.com', base);
  if (!operation || answer.status >= 300 || answer.body === undefined) return { status: answer.status, text };
  const { errors } = api.validateResponse(JSON.parse(text), operation, answer.status);
  entry.responseProblems.push(...(errors ?? []).map(sentence));
  if (!entry.responseProblems.length) return { status: answer.status, text };
  return { status: 599, text: JSON.stringify({ message: 'the answer violates the description', errors: entry.responseProblems }) };
}

/** Rules for every call that the description does not hold. */
function checkHeaders(headers, entry) {
  const problem = (text) => entry.requestProblems.push(text);
  if (!headers['user-agent']) problem('no User-Agent');
  if (headers['x-github-api-version'] && headers['x-github-api-version'] !== API_VERSION) problem('unexpected X-GitHub-Api-Version');
  if (entry.method === 'POST' && !/^application\/json/.test(headers['content-type'] ?? '')) problem('a body that is not application/json');
}

function problemsOf({ requestProblems, responseProblems, status }) {
  return [...requestProblems, ...responseProblems, ...(status === 501 || status === 599 ? [`answered ${status}`] : [])];
}

function operationOf(method, path) {
  return api.router.matchOperation({ method, path: encodeTail(path).split('?')[0], headers: {} })?.operationId;
}

/** `git/ref/heads/main` is one parameter to GitHub and three segments to a router. */
function encodeTail(path) {
  return path.replace(/^(\/repos\/[^/]+\/[^/]+\/git\/ref\/)([^?]+)/, (_, head, tail) => head + encodeURIComponent(decodeURIComponent(tail)));
}

function standardHeaders() {
  const { remaining, resetAt } = github.state;
  return {
    'x-ratelimit-limit': '5000',
    'x-ratelimit-remaining': String(Math.max(0, remaining)),
    'x-ratelimit-reset': String(resetAt),
    'x-ratelimit-resource': 'core',
    'x-github-request-id': crypto.randomUUID(),
    'x-github-api-version-selected': API_VERSION,
  };
}

function sentence({ instancePath, message, params }) {
  return `${instancePath || '/'} ${message} ${JSON.stringify(params ?? {})}`;
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
