// Asks the server for JSON, or sends it a form's fields: every way in which that can fail, in words for whoever waits.
"use strict";
window.visearchTalk = (() => {
  const AWAY = "The server cannot be reached. This page tries again by itself.";

  class Refused extends Error {}
  class SessionEnded extends Error {}

  /** Whoever logs in again, in another tab, gets another token: the cookie has it, this page does not. */
  function token() {
    const cookie = document.cookie.split("; ").find((each) => each.startsWith("csrftoken="));
    return cookie ? cookie.slice("csrftoken=".length) : document.querySelector("[name=csrfmiddlewaretoken]").value;
  }

  /** The response as it is. Throws SessionEnded, and what fetch throws where there is none. */
  async function ask(address, options = {}) {
    const response = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual", ...options });
    if (response.type === "opaqueredirect") throw new SessionEnded(); // to the login page
    return response;
  }

  function loggedOut(words) {
    return Object.assign(new Refused(words), { login: true });
  }

  /** What the server says, also where it did not do it. Throws Refused. */
  async function talk(address, fields) {
    const options = {};
    if (fields) {
      const headers = { Accept: "application/json", "X-CSRFToken": token() };
      Object.assign(options, { method: "POST", body: new URLSearchParams(fields), headers });
    }
    let answer;
    try {
      answer = await ask(address, options);
    } catch (error) {
      if (error instanceof SessionEnded) throw loggedOut("Your session has ended, and nothing was changed.");
      throw new Refused("The server does not answer. Nothing was changed; try again in a moment.");
    }
    const data = await answer.json().catch(() => null);
    if (data) return data;
    if (answer.status === 403) throw loggedOut("You are no longer signed in, or may not do this any more.");
    if (answer.status === 404) throw new Refused("This image is gone, or you may no longer change it.");
    throw new Refused(`The server could not do this (${answer.status}). Try again; its log knows why.`);
  }

  return { AWAY, Refused, SessionEnded, ask, talk, token };
})();
