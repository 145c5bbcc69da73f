// Requests to the API, and the session.
const address = new URLSearchParams(location.search).get("api") || "http://127.0.0.1:8000";
export const API = address.replace(/\/+$/, "");
const NO_RESPONSE = `No response from ${API}. Does it run with ${location.origin} in BLOG_CORS_ORIGINS?`;
const SESSION_KEY = `session of ${API}`;  // A token is never sent to another API.

export let session = JSON.parse(sessionStorage.getItem(SESSION_KEY));  // the account and its token, or null
// A second token, with the scope `admin` alone. It is kept in memory, and lost when the page is reloaded.
export let adminToken = null;
export const setAdminToken = token => { adminToken = token; };

export function storeSession(value) {
  sessionStorage.setItem(SESSION_KEY, JSON.stringify(session = value));
  if (!value) adminToken = null;
  dispatchEvent(new Event("session"));
}
export function setSession(value) {
  storeSession(value);
  location.hash = value ? "#/" : "#/log-in";
}
export const startSession = async ({ access_token: token }) =>
  setSession({ ...await call("GET", "/users/me", { token }), token });
// Return the account as it is now: an administrator may have changed it since the log-in.
export async function refreshAccount() {
  const me = await get("/users/me");
  storeSession({ ...me, token: session.token });
  return me;
}
export const mayWrite = account => Boolean(account?.is_author || account?.is_admin);
// Revoke both tokens; one that has expired needs no revocation.
const revoke = token => call("DELETE", "/auth", { token }).catch(error => { if (error.status !== 401) throw error; });
export const endSession = () =>
  Promise.all([session.token, adminToken].filter(Boolean).map(revoke)).finally(() => setSession(null));

const readJSON = text => JSON.parse(text || null);
const sendByFetch = async (method, url, { headers, body }) => {
  const response = await fetch(url, { method, headers, body });
  return { status: response.status, data: readJSON(await response.text()), etag: response.headers.get("ETag") };
};
// fetch() does not report the progress of an upload.
const sendWithProgress = (method, url, { headers, body, onprogress }) => new Promise((resolve, reject) => {
  const sender = new XMLHttpRequest();
  sender.open(method, url);
  Object.entries(headers).forEach(header => sender.setRequestHeader(...header));
  sender.upload.onprogress = ({ loaded, total }) => onprogress(loaded / total);
  sender.onerror = reject;
  sender.onload = () => {
    try { resolve({ status: sender.status, data: readJSON(sender.responseText) }); } catch (error) { reject(error); }
  };
  sender.send(body);
});

// Return data and ETag of a response. With a key, a request is repeated until its outcome is known.
export async function request(method, path, { json, body, key, etag, onprogress, token = session?.token } = {}) {
  const headers = { ...(token && { "Authorization": `Bearer ${token}` }), ...(key && { "Idempotency-Key": key }),
    ...(etag && { "If-Match": etag }), ...(json && { "Content-Type": "application/json" }) };
  const options = { headers, onprogress, body: json ? JSON.stringify(json) : body };
  for (let attempt = 1; ; attempt++) {
    const { status, data, etag } = await (onprogress ? sendWithProgress : sendByFetch)(method, API + path, options)
      .catch(() => ({ status: 0, data: { type: "", detail: NO_RESPONSE } }));
    if (status >= 200 && status < 300) return { data, etag };
    const isUnknown = [0, 408].includes(status) || status >= 500 || data.type.endsWith(":idempotency-key-in-use");
    if (!key || !isUnknown || attempt === 4) {
      if (data.type === "urn:blog-api:invalid-token") {
        if (token === adminToken) setAdminToken(null);
        else setSession(null);
      }
      const fields = (data.errors || []).map(({ loc, msg }) => `${loc.at(-1)}: ${msg}`);
      throw Object.assign(new Error([data.detail, ...fields].join("\n")), { status });
    }
    await new Promise(resume => setTimeout(resume, 500 * attempt));
  }
}
export const call = async (...values) => (await request(...values)).data;
export const get = path => call("GET", path);
export const getPublic = path => call("GET", path, { token: null });  // needs no preflight request, and is cached
export const postPublic = (path, body) => call("POST", path, { ...body, token: null });
export const makeKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
export const encode = values => new URLSearchParams(Object.entries(values).filter(([, value]) => value));
