// Asks the server. The token came behind # in the address, and goes nowhere but into the header.

const KEPT = `hybridseg ${location.host}`;
const given = location.hash.slice(1);
if (given) {
  sessionStorage.setItem(KEPT, given);
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem(KEPT) ?? "";

export const headers = { Authorization: `Bearer ${token}` };

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answer(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer. All that was saved is on the disk: start it again.");
  }
  if (reply.ok) return reply;
  const said = await reply.json().catch(() => ({}));
  throw new Refused(reply.status, said.error ?? `The server answered ${reply.status}.`);
}

export async function get(path, values = {}) {
  const query = new URLSearchParams(values).toString();
  return (await answer(query ? `${path}?${query}` : path, { headers })).json();
}

export async function post(path, body, signal) {
  const sent = { ...headers, "Content-Type": "application/json" };
  return (await answer(path, { method: "POST", headers: sent, body: JSON.stringify(body), signal })).json();
}

export async function download(path, values) {
  const reply = await answer(`${path}?${new URLSearchParams(values)}`, { headers });
  const named = /filename="([^"]+)"/.exec(reply.headers.get("Content-Disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reply.blob());
  link.download = named?.[1] ?? "reviewed";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return link.download;
}
