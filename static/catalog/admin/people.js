// Offers names of people while one is typed, in the input's list. By itself: to any input with data-names, the address
// that knows them.
"use strict";
window.visearchPeople = (() => {
  const { talk } = window.visearchTalk;

  /** Offers them from now on; `failed` gets what went wrong. Returns a function that forgets what was offered. */
  function offerNames(input, address, failed) {
    let last = "";
    let timer = 0;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const text = input.value.trim();
        if (!text || text === last) return;
        last = text;
        try {
          const { people } = await talk(`${address}?q=${encodeURIComponent(text)}`);
          input.list.replaceChildren(...people.map((name) => new Option(name, name)));
        } catch (error) {
          failed(error);
        }
      }, 150);
    });
    return () => {
      last = "";
      input.list.replaceChildren();
    };
  }

  for (const input of document.querySelectorAll("input[data-names]")) {
    offerNames(input, input.dataset.names, () => {}); // without offers a name can still be typed
  }

  return { offerNames };
})();
