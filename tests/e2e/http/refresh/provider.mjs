// A real OpenID Connect provider on loopback with a grant that somebody has given: `node provider.mjs PORT`. Says `ready` and the
// grant's refresh token. Each is good once; one that is brought twice ends the grant.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const modules = process.env.INTERCEPTOR_NODE_MODULES;
const entry = createRequire(join(modules, 'x.js')).resolve('oidc-provider');
const { Provider } = await import(pathToFileURL(entry));

const port = Number(process.argv[2]);
const client = (id, more) => ({
  client_id: id,
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: ['https://app.example.com/back'],
  response_types: ['code'],
  ...more,
});
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    client('confidential', { client_secret: 'secret-of-the-client' }),
    client('public', { token_endpoint_auth_method: 'none' }),
  ],
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  issueRefreshToken: () => true,
  rotateRefreshToken: () => true,
  ttl: { AccessToken: 600, Grant: 600, IdToken: 600, RefreshToken: 600 },
});
const scope = 'openid offline_access';
const granted = async (id) => {
  const grant = new provider.Grant({ clientId: id, accountId: 'somebody' });
  grant.addOIDCScope(scope);
  const token = new provider.RefreshToken({
    client: await provider.Client.find(id),
    accountId: 'somebody',
    grantId: await grant.save(),
    gty: 'authorization_code',
    scope,
  });
  return token.save();
};
const tokens = [await granted('confidential'), await granted('public')];
provider.listen(port, '127.0.0.1', () => console.log('ready', ...tokens, '.'));
