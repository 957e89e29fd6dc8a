// oidc-provider with a token-exchange grant of our own, since it has none, so that bench can measure it beside Obolus. Everything
// is in memory. It listens on this machine only.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { Provider, errors } from 'oidc-provider';
import { SignJWT, jwtVerify } from 'jose';

const [host, port] = process.env.ADDR.split(':');
const issuer = `http://${process.env.ADDR}`;
const clientJWK = JSON.parse(process.env.CLIENT_JWK);
const secret = 'a-secret-of-the-benchmark-0123456789';
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange';
const accessToken = 'urn:ietf:params:oauth:token-type:access_token';
const resource = 'https://mail.test/api';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = { ...privateKey.export({ format: 'jwk' }), kid: 'key', alg: 'ES256', use: 'sig' };

const client = (client_id, token_endpoint_auth_method, more) => ({
  client_id, token_endpoint_auth_method, redirect_uris: [], response_types: [], grant_types: [exchange], scope: 'mail.read',
  id_token_signed_response_alg: 'ES256', ...more,
});

const provider = new Provider(issuer, {
  jwks: { keys: [jwk] },
  clients: [
    client('keeper', 'client_secret_post', { client_secret: secret }),
    client('signer', 'private_key_jwt', { token_endpoint_auth_signing_alg: 'ES256', jwks: { keys: [clientJWK] } }),
  ],
  scopes: ['mail.read'],
  enabledJWA: { clientAuthSigningAlgValues: ['ES256'] },
  ttl: { AccessToken: 600 },
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({ scope: 'mail.read', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }),
    },
  },
});

provider.registerGrantType(exchange, async (ctx) => {
  const { params } = ctx.oidc;
  if (params.subject_token_type !== accessToken || params.resource !== resource || params.scope !== 'mail.read') {
    throw new errors.InvalidRequest('not what this grant is for');
  }
  let subject;
  try {
    subject = (await jwtVerify(params.subject_token, publicKey, { issuer, algorithms: ['ES256'] })).payload;
  } catch {
    throw new errors.InvalidGrant('the subject token cannot be used');
  }
  const token = new ctx.oidc.provider.AccessToken({ accountId: subject.sub, client: ctx.oidc.client, scope: params.scope });
  token.resourceServer = new ctx.oidc.provider.ResourceServer(resource, {
    scope: 'mail.read', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } },
  });
  token.extra = { act: { iss: issuer, sub: ctx.oidc.client.clientId } };
  ctx.body = {
    access_token: await token.save(), issued_token_type: accessToken, token_type: 'Bearer', expires_in: token.expiration, scope: token.scope,
  };
}, ['subject_token', 'subject_token_type', 'resource', 'scope'], ['resource']);

const subjects = async (n) => Promise.all(Array.from({ length: n }, () => new SignJWT({ scope: 'mail.read' })
  .setProtectedHeader({ alg: 'ES256', kid: 'key', typ: 'at+jwt' })
  .setIssuer(issuer).setSubject('alice').setAudience(issuer).setJti(randomBytes(16).toString('hex')).setIssuedAt().setExpirationTime('1h')
  .sign(privateKey)));

provider.on('server_error', (_, err) => console.error(err));

const app = provider.callback();
createServer(async (req, res) => {
  const url = new URL(req.url, issuer);
  if (url.pathname !== '/bench/subjects') {
    app(req, res);
    return;
  }
  const n = Number(url.searchParams.get('n'));
  if (!(n >= 1 && n <= 100000)) {
    res.writeHead(400).end();
    return;
  }
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(await subjects(n)));
}).listen(Number(port), host);
