// What the stand-in knows and does: repositories, tokens, deployments and their statuses.
//
// Every handler receives a call `{ params, query, body, auth }` and returns `{ status, body, headers }`. Rules that
// GitHub's OpenAPI description does not hold (lengths, conflicts, which commit exists) are written out here.
import crypto from 'node:crypto';

const INSTALLATION = 5;
const DESCRIPTION_MAX = 140;

/** A GitHub of its own: `state` is everything it remembers, `operations` answer by operation id. */
export function createGitHub({ example, base }) {
  const state = { ...settings(), key: keyPair() };
  const operations = { ...appOperations(), ...repositoryOperations(), ...deploymentOperations() };
  return { state, operations, reset, seed, authenticate, app };

  /** Everything but the App's key pair, which lives as long as the process. */
  function settings() {
    return {
      lastId: 1000,
      appId: 1,
      permissions: { deployments: 'write', metadata: 'read' },
      tokenSeconds: 3600,
      remaining: 5000,
      resetAt: Math.ceil(Date.now() / 1000) + 3600,
      repositories: new Map(),
      deployments: [],
      statuses: new Map(),
      tokens: new Map(),
      minted: 0,
    };
  }

  function reset() {
    Object.assign(state, settings());
  }

  /** Adds a repository with commits and branches: `{ repository: "acme/shop", commits: [sha], branches: {main: sha} }`. */
  function seed({ repository, commits = [], branches = {}, contexts = {} }) {
    const known = state.repositories.get(repository) ?? { commits: new Set(), branches: new Map(), contexts: new Map() };
    [...commits, ...Object.values(branches)].forEach((sha) => known.commits.add(sha));
    Object.entries(branches).forEach(([name, sha]) => known.branches.set(name, sha));
    Object.entries(contexts).forEach(([sha, list]) => known.contexts.set(sha, list));
    state.repositories.set(repository, known);
  }

  /** What a client needs to act as the App. */
  function app() {
    const privateKey = state.key.privateKey.export({ type: 'pkcs1', format: 'pem' });
    return { app_id: state.appId, installation: INSTALLATION, private_key: privateKey };
  }

  /** Who is calling: `app`, `installation`, `user`, or null when the credentials are no good. */
  function authenticate(headers) {
    const token = /^(?:Bearer|token) (.+)$/i.exec(headers.authorization ?? '')?.[1];
    if (!token) return null;
    if (token.startsWith('ghs_')) return (state.tokens.get(token) ?? 0) > Date.now() ? 'installation' : null;
    if (token.startsWith('ghp_')) return 'user';
    return isAppToken(token) ? 'app' : null;
  }

  function isAppToken(token) {
    const [header, claims, signature] = token.split('.');
    if (!signature) return false;
    const signed = Buffer.from(`${header}.${claims}`);
    if (!crypto.verify('RSA-SHA256', signed, state.key.publicKey, Buffer.from(signature, 'base64url'))) return false;
    const { iss, iat, exp } = JSON.parse(Buffer.from(claims, 'base64url'));
    const now = Date.now() / 1000;
    return String(iss) === String(state.appId) && iat <= now && exp > now && exp - now <= 600;
  }

  function appOperations() {
    return {
      'apps/get-authenticated': () => ok({ ...example('apps/get-authenticated', 200), id: state.appId }),
      'apps/get-repo-installation': ({ params, auth }) => {
        if (auth !== 'app') return failure(401, 'A JSON web token could not be decoded');
        if (!repositoryOf(params)) return failure(404, 'Not Found');
        return ok({ ...example('apps/get-repo-installation', 200), id: INSTALLATION, app_id: state.appId });
      },
      'apps/create-installation-access-token': ({ params, body, auth }) => {
        if (auth !== 'app') return failure(401, 'A JSON web token could not be decoded');
        if (Number(params.installation_id) !== INSTALLATION) return failure(404, 'Not Found');
        const refused = Object.keys(body?.permissions ?? {}).find((name) => !state.permissions[name]);
        if (refused) return failure(422, 'The permissions requested are not granted to this installation.');
        return created(mint(body?.permissions ?? state.permissions));
      },
      'rate-limit/get': () => {
        const limits = example('rate-limit/get', 200);
        Object.assign(limits.resources.core, { remaining: state.remaining, reset: state.resetAt });
        return ok(limits);
      },
    };
  }

  /** Tokens are long on purpose: GitHub's have not been 40 characters since April 2026. */
  function mint(permissions) {
    const token = `ghs_${state.appId}_${crypto.randomBytes(300).toString('base64url')}`;
    const expires = Date.now() + state.tokenSeconds * 1000;
    state.tokens.set(token, expires);
    state.minted += 1;
    return { token, expires_at: stamp(expires), permissions, repository_selection: 'all' };
  }

  function repositoryOperations() {
    return {
      'repos/get': ({ params }) => {
        if (!repositoryOf(params)) return failure(404, 'Not Found');
        const { source: _source, parent: _parent, ...full } = example('repos/get', 200);
        return ok({ ...full, language: null, name: params.repo, full_name: `${params.owner}/${params.repo}` });
      },
      'git/get-ref': ({ params }) => {
        const name = params.ref.replace(/^heads\//, '');
        const sha = repositoryOf(params)?.branches.get(name);
        if (!sha) return failure(404, 'Not Found');
        const url = `${urlOf(params)}/git/refs/heads/${name}`;
        const object = { type: 'commit', sha, url: `${urlOf(params)}/git/commits/${sha}` };
        return ok({ ref: `refs/heads/${name}`, node_id: 'node', url, object });
      },
    };
  }

  function deploymentOperations() {
    return {
      'repos/create-deployment': createDeployment,
      'repos/list-deployments': ({ params, query }) => {
        if (!repositoryOf(params)) return failure(404, 'Not Found');
        const fits = (one) => ['sha', 'ref', 'task', 'environment'].every((k) => [undefined, 'none', one[k]].includes(query[k]));
        return page(query, deploymentsOf(params).filter(fits), params);
      },
      'repos/get-deployment': ({ params }) => {
        const one = deploymentOf(params);
        return one ? ok(one) : failure(404, 'Not Found');
      },
      'repos/create-deployment-status': createStatus,
      'repos/list-deployment-statuses': ({ params, query }) => {
        const one = deploymentOf(params);
        return one ? page(query, state.statuses.get(one.id), params) : failure(404, 'Not Found');
      },
      'repos/get-deployment-status': ({ params }) => {
        const one = state.statuses.get(deploymentOf(params)?.id)?.find((s) => s.id === Number(params.status_id));
        return one ? ok(one) : failure(404, 'Not Found');
      },
    };
  }

  function createDeployment({ params, body, auth }) {
    const repository = repositoryOf(params);
    if (!repository) return failure(404, 'Not Found');
    if (auth === 'app') return failure(403, 'Resource not accessible by integration');
    const sha = repository.branches.get(body.ref) ?? (repository.commits.has(body.ref) ? body.ref : undefined);
    if (!sha) return failure(422, `No ref found for: ${body.ref}`);
    const conflict = unmetContexts(repository.contexts.get(sha) ?? [], body);
    if (conflict) return conflict;
    if (body.auto_merge !== false && repository.branches.has(body.ref) && body.ref !== 'main') {
      return { status: 202, body: { message: `Auto-merged main into ${body.ref} on deployment.` } };
    }
    const environment = body.environment ?? 'production';
    const one = {
      ...example('repos/create-deployment', 201),
      id: nextId(),
      sha,
      ref: body.ref,
      task: body.task ?? 'deploy',
      payload: body.payload ?? '',
      environment,
      original_environment: environment,
      description: body.description ?? null,
      transient_environment: body.transient_environment ?? false,
      production_environment: body.production_environment ?? environment === 'production',
      created_at: stamp(),
      updated_at: stamp(),
      repository_url: urlOf(params),
    };
    one.url = `${urlOf(params)}/deployments/${one.id}`;
    one.statuses_url = `${one.url}/statuses`;
    state.deployments.unshift(one);
    state.statuses.set(one.id, []);
    return created(one);
  }

  /** Without `required_contexts` every known context must be success: our own pending status would refuse us. */
  function unmetContexts(contexts, { ref, required_contexts: required }) {
    const needed = required ?? contexts.map((one) => one.context);
    const met = (name) => contexts.find((one) => one.context === name)?.state === 'success';
    if (needed.every(met)) return undefined;
    const errors = [{ contexts, resource: 'Deployment', field: 'required_contexts', code: 'invalid' }];
    return failure(409, `Conflict: Commit status checks failed for ${ref}.`, errors);
  }

  function createStatus({ params, body }) {
    const deployment = deploymentOf(params);
    if (!deployment) return failure(404, 'Not Found');
    if ([...(body.description ?? '')].length > DESCRIPTION_MAX) {
      const message = `description is too long (maximum is ${DESCRIPTION_MAX} characters)`;
      return failure(422, 'Validation Failed', [{ resource: 'DeploymentStatus', code: 'custom', field: 'description', message }]);
    }
    const status = addStatus(deployment, body);
    if (body.state === 'success' && body.auto_inactive !== false) inactivateOthers(params, deployment);
    return created(status, { location: status.url });
  }

  function addStatus(deployment, { state: word, description, environment, log_url: log, target_url: target, environment_url: env }) {
    const status = {
      ...example('repos/create-deployment-status', 201),
      id: nextId(),
      state: word,
      description: description ?? '',
      environment: environment ?? deployment.environment,
      target_url: log ?? target ?? '',
      log_url: log ?? target ?? '',
      environment_url: env ?? '',
      created_at: stamp(),
      updated_at: stamp(),
      deployment_url: deployment.url,
      repository_url: deployment.repository_url,
    };
    status.url = `${deployment.url}/statuses/${status.id}`;
    for (const name of ['log_url', 'environment_url']) if (status[name] === '') delete status[name];
    if (status.target_url === '') status.target_url = deployment.url;
    state.statuses.get(deployment.id).unshift(status);
    return status;
  }

  /** GitHub spares production and transient environments, which surprises people. */
  function inactivateOthers(params, deployment) {
    for (const other of deploymentsOf(params)) {
      const spared = other === deployment || other.transient_environment || other.production_environment;
      const newest = state.statuses.get(other.id)[0]?.state;
      if (!spared && other.environment === deployment.environment && newest === 'success') {
        addStatus(other, { state: 'inactive' });
      }
    }
  }

  function page(query, list, params) {
    const size = Math.min(Number(query.per_page ?? 30), 100);
    const number = Number(query.page ?? 1);
    const more = list.length > size * number;
    const link = `<${urlOf(params)}/deployments?per_page=${size}&page=${number + 1}>; rel="next"`;
    return ok(list.slice((number - 1) * size, number * size), more ? { link } : {});
  }

  function repositoryOf({ owner, repo }) {
    return state.repositories.get(`${owner}/${repo}`);
  }

  function deploymentsOf(params) {
    return state.deployments.filter((one) => one.repository_url === urlOf(params));
  }

  function deploymentOf(params) {
    return deploymentsOf(params).find((one) => one.id === Number(params.deployment_id));
  }

  function urlOf({ owner, repo }) {
    return `${base()}/repos/${owner}/${repo}`;
  }

  function nextId() {
    state.lastId += 1;
    return state.lastId;
  }
}

/** The body GitHub sends with an error. */
export function failure(status, message, errors) {
  const body = { message, ...(errors && { errors }), documentation_url: 'https://docs.github.com/rest', status: String(status) };
  return { status, body };
}

function ok(body, headers) {
  return { status: 200, body, headers };
}

function created(body, headers) {
  return { status: 201, body, headers };
}

function stamp(at = Date.now()) {
  return new Date(at).toISOString().replace(/\.\d+Z$/, 'Z');
}

function keyPair() {
  return crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
}
