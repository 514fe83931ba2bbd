// Asks the server for JSON, or sends it a form's fields: every way in which that can fail, in words for whoever waits.
"use strict";
window.visearchTalk = (() => {
  class Refused extends Error {}

  function token() {
    const cookie = document.cookie.split("; ").find((each) => each.startsWith("csrftoken="));
    return cookie ? cookie.slice("csrftoken=".length) : document.querySelector("[name=csrfmiddlewaretoken]").value;
  }

  function loggedOut(words) {
    return Object.assign(new Refused(words), { login: true });
  }

  async function talk(address, fields) {
    const options = { headers: { Accept: "application/json" }, redirect: "manual" };
    if (fields) {
      Object.assign(options, { method: "POST", body: new URLSearchParams(fields) });
      options.headers["X-CSRFToken"] = token();
    }
    let answer;
    try {
      answer = await fetch(address, options);
    } catch {
      throw new Refused("The server does not answer. Nothing was changed; try again in a moment.");
    }
    if (answer.type === "opaqueredirect") throw loggedOut("Your session has ended, and nothing was changed.");
    const data = await answer.json().catch(() => null);
    if (data) return data;
    if (answer.status === 403) throw loggedOut("You are no longer signed in, or may not do this any more.");
    if (answer.status === 404) throw new Refused("This image is gone, or you may no longer change it.");
    throw new Refused(`The server could not do this (${answer.status}). Try again; its log knows why.`);
  }

  return { Refused, talk };
})();
