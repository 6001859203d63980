// A real OpenID Connect provider on loopback: `node provider.mjs PORT [BACK]`. Says `ready` on its output.
//
// Workloads get JWT access tokens by client credentials; their groups follow from the client. People log in by
// the device flow, or by the code flow back to BACK, on the provider's own pages; anybody may be anybody, with any password, and who is
// called an intern is of the interns.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const modules = process.env.INTERCEPTOR_NODE_MODULES;
const entry = createRequire(join(modules, 'x.js')).resolve('oidc-provider');
const { Provider } = await import(pathToFileURL(entry));

const port = Number(process.argv[2]);
const back = process.argv[3];
const issuer = `http://127.0.0.1:${port}`;
const workload = (id) => ({
  client_id: id,
  client_secret: `secret-of-${id}`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});
const groups = { analyst: ['analysts'], brief: ['analysts'], intern: ['interns'] };

const provider = new Provider(issuer, {
  clients: [
    ...Object.keys(groups).map(workload),
    {
      client_id: 'interceptor-cli',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', ...(back ? ['authorization_code'] : [])],
      redirect_uris: back ? [back] : [],
      response_types: back ? ['code'] : [],
    },
  ],
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  conformIdTokenClaims: false,
  extraTokenClaims: (_context, token) => ({
    preferred_username: token.clientId,
    groups: groups[token.clientId],
    ref: 'refs/heads/main',
  }),
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: [id.startsWith('intern') ? 'interns' : 'analysts'] }),
  }),
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:interceptor',
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, _resource, client) => ({
        scope: 'read',
        audience: client.clientId === 'intern' ? 'others' : 'interceptor',
        accessTokenFormat: 'jwt',
        accessTokenTTL: client.clientId === 'brief' ? 15 : 600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  ttl: { DeviceCode: 120, IdToken: 600, AccessToken: 600, Grant: 600, Interaction: 600, Session: 600 },
});
provider.listen(port, '127.0.0.1', () => console.log('ready'));
