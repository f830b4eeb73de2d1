// Cuts GitHub's OpenAPI description down to the operations in operations.txt and everything they refer to.
//
//   npm install --no-save @octokit/openapi@23.0.2 && node cut.mjs            writes api.json
//   npm install --no-save @octokit/openapi@23.0.2 && node cut.mjs --check    fails when api.json differs
//
// Three defects of the published description are mended here, so that a strict validator can read it: `nullable`
// without a type becomes `anyOf [.., null]`, nullable enums get the `null` they forget, and examples stay untouched.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const here = (name) => new URL(name, import.meta.url);
const source = JSON.parse(readFileSync(require.resolve('@octokit/openapi/generated/api.github.com.json')));
const wanted = new Set(readFileSync(here('operations.txt'), 'utf8').split(/\s+/).filter(Boolean));

const paths = {};
for (const [path, item] of Object.entries(source.paths)) {
  for (const [method, operation] of Object.entries(item)) {
    if (!wanted.delete(operation.operationId)) continue;
    (paths[path] ??= {})[method] = lean(operation);
  }
}
if (wanted.size) throw new Error(`not in the description: ${[...wanted].join(', ')}`);

const api = { openapi: source.openapi, info: source.info, paths, components: closure(paths) };
const text = `${JSON.stringify(mend(api))}\n`;
if (process.argv.includes('--check')) {
  if (readFileSync(here('api.json'), 'utf8') !== text) throw new Error('api.json differs: run `node cut.mjs`');
} else {
  writeFileSync(here('api.json'), text);
}

/** Drops documentation that no validator reads. */
function lean({ 'x-github': _github, externalDocs: _docs, description: _text, ...operation }) {
  return operation;
}

/** Collects every component that `roots` refers to, directly or not. */
function closure(roots) {
  const components = {};
  const walk = (node) => {
    if (!node || typeof node !== 'object') return;
    if (typeof node.$ref === 'string') {
      const [, , kind, name] = node.$ref.split('/');
      const bucket = (components[kind] ??= {});
      if (!bucket[name]) walk((bucket[name] = source.components[kind][name]));
    }
    Object.values(node).forEach(walk);
  };
  walk(roots);
  return components;
}

/** Turns OpenAPI 3.0 `nullable` into what JSON Schema validators accept. */
function mend(node) {
  if (!node || typeof node !== 'object') return node;
  for (const key of Object.keys(node)) {
    if (!['example', 'examples', 'enum', 'default'].includes(key)) node[key] = mend(node[key]);
  }
  if (node.nullable !== true) return node;
  if (!node.type && (node.$ref || node.anyOf || node.oneOf || node.allOf)) {
    const { nullable: _nullable, ...rest } = node;
    return { anyOf: [rest, { type: 'null' }] };
  }
  if (node.enum && !node.enum.includes(null)) node.enum.push(null);
  if (!node.type) delete node.nullable;
  return node;
}
