// Requests to the server that the page came from: their token, errors, versions and late answers.

const TOKEN = "mixnmatch-token";
/** What a header carries; a copied token may have an invisible space in it, or an ellipsis. */
const SENDABLE = /^[\x21-\x7e]+$/;
const get = (id) => document.getElementById(id);

/** What the server refuses, in its own line; status 0 if it does not answer at all. */
export class Refusal extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

let versionSeen = () => {};

/** Call this with the model's version whenever an answer names one. */
export function onVersion(listener) {
  versionSeen = listener;
}

/**
 * Ask the server.
 * @param {string} path relative to the page's address, so that a prefix before it does no harm
 * @param {{body?: FormData, accept?: string, signal?: AbortSignal}} options a body makes it a POST
 * @returns {Promise<Response>} of status 200
 * @throws {Refusal} unless the signal was the reason
 */
export async function ask(path, { body, accept, signal } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = {};
    if (token) headers.Authorization = `Bearer ${token}`;
    if (accept) headers.Accept = accept;
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", body, headers, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refusal(0, "The server does not answer: is it running, and is this device online?");
    }
    if (response.status === 401) {
      // Another request may have got one in the meantime.
      if (sessionStorage.getItem(TOKEN) === token) await newToken(await lineOf(response), token);
      continue;
    }
    if (!response.ok) throw new Refusal(response.status, await lineOf(response));
    const version = response.headers.get("X-Model-Version");
    if (version !== null) versionSeen(version);
    return response;
  }
}

async function lineOf(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string") return error;
  } catch {
    // A proxy's page, for instance.
  }
  return `The server answers ${response.status} ${response.statusText}`.trim();
}

let asking = null;

/** Ask the user for a token; requests that need one at the same time wait for the same answer. */
function newToken(line, refused) {
  asking ??= new Promise((resolve, reject) => {
    const dialog = get("token");
    get("token-why").textContent = refused ? line : "";
    get("token-value").value = "";
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        if (dialog.returnValue !== "use") return reject(new Refusal(401, line));
        sessionStorage.setItem(TOKEN, get("token-value").value.trim());
        return resolve();
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}

/** What is wrong with a token that was typed, or nothing. */
function wrongWith(token) {
  if (!token) return "Write or paste the token.";
  const letters = [...token];
  const place = letters.findIndex((letter) => !SENDABLE.test(letter));
  if (place < 0) return "";
  const code = letters[place].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return `The token's character ${place + 1} (U+${code}) cannot be right: copy it again, without spaces, “…” and the like.`;
}

get("token").addEventListener("submit", (event) => {
  if (event.submitter?.value !== "use") return;
  const wrong = wrongWith(get("token-value").value.trim());
  if (!wrong) return;
  event.preventDefault();
  get("token-why").textContent = wrong;
  get("token-value").focus();
});

/**
 * Work whose newest call counts: it waits for a pause, and a newer call ends it.
 * @param {number} pause in milliseconds
 * @param {(signal: AbortSignal) => Promise<void>} work must do nothing once its signal is aborted
 */
export function newest(pause, work) {
  let timer;
  let running = new AbortController();
  return () => {
    clearTimeout(timer);
    running.abort();
    timer = setTimeout(() => {
      running = new AbortController();
      work(running.signal);
    }, pause);
  };
}

/** Have the browser save a file under a name. */
export function save(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}

/** Show one line of trouble in an element with role alert, or nothing. */
export function problem(element, line = "") {
  (element.querySelector("span") ?? element).textContent = line;
  element.hidden = !line;
}
