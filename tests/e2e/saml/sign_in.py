"""A person's browser at a SAML identity provider: asks to be signed in for a service, types name and password,
and prints what would be posted to the service."""

import base64
import html
import re
import sys
import time
import urllib.parse
import urllib.request

url, recipient, audience, user, password = sys.argv[1:]
now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
request = f"""<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"
 xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_{time.time_ns()}" Version="2.0" IssueInstant="{now}"
 AssertionConsumerServiceURL="{recipient}"><saml:Issuer>{audience}</saml:Issuer></samlp:AuthnRequest>"""
form = urllib.parse.urlencode({
    "SAMLRequest": base64.b64encode(request.encode()).decode(),
    "username": user,
    "password": password,
})
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
page = browser.open(f"{url}/saml/sso", form.encode()).read().decode()
found = re.search(r'name="SAMLResponse" value="([^"]+)"', page)
if not found:
    sys.exit(page)
print(html.unescape(found.group(1)))
