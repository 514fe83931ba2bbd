// Makes the page quicker to use; everything it does also works without it, by plain forms and links.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  document.documentElement.classList.add("js");

  // --- Putting a photo in: choose, drop, paste ---------------------------------------------------------------------
  const form = $("[data-upload]");
  const again = $(".again");

  function refuse(name, words) {
    const error = $("[data-error]", form);
    error.textContent = name ? `${name}: ${words}` : words;
    error.hidden = false;
    for (const input of form.querySelectorAll("[data-file]")) input.value = "";
  }

  function reasonAgainst(file) {
    const most = Number(form.dataset.most);
    if (most && file.size > most) return form.dataset.tooLarge;
    if (file.type && !file.type.startsWith("image/")) return form.dataset.noImage;
    return "";
  }

  async function showLocally(file) {
    const canvas = $("[data-local]", form);
    try {
      const bitmap = await createImageBitmap(file);
      const scale = Math.min(1, 900 / Math.max(bitmap.width, bitmap.height));
      canvas.width = Math.round(bitmap.width * scale);
      canvas.height = Math.round(bitmap.height * scale);
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      bitmap.close();
    } catch {
      canvas.hidden = true; // a format that this browser cannot show; the server may still read it
    }
  }

  let sending = false;
  function send(input) {
    const file = input.files[0];
    if (!file || sending) return;
    const reason = reasonAgainst(file);
    if (reason) return refuse(file.name, reason);
    sending = true;
    for (const other of form.querySelectorAll("[data-file]")) other.disabled = other !== input;
    $("[data-error]", form).hidden = true;
    showLocally(file).then(() => {
      $("[data-drop]", form).hidden = true;
      $("[data-working]", form).hidden = false;
      const status = $("[data-status]", form);
      status.textContent = status.dataset.say;
      form.submit();
    });
  }

  function take(files) {
    if (!files.length) return;
    if (files.length > 1) return refuse("", form.dataset.several);
    const input = $("[data-file]", form);
    const transfer = new DataTransfer();
    transfer.items.add(files[0]);
    input.files = transfer.files;
    send(input);
  }

  if (form) {
    const drop = $("[data-drop]", form);
    for (const input of form.querySelectorAll("[data-file]")) input.addEventListener("change", () => send(input));
    let depth = 0;
    const over = (change) => {
      depth = Math.max(0, depth + change);
      drop.classList.toggle("over", depth > 0);
    };
    document.addEventListener("dragenter", () => over(1));
    document.addEventListener("dragleave", () => over(-1));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      over(-depth);
      take([...event.dataTransfer.files]);
    });
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) {
        event.preventDefault();
        take(files);
      }
    });
    window.addEventListener("pageshow", (event) => {
      if (!event.persisted) return; // back from the results: as if nothing had been put in
      sending = false;
      drop.hidden = false;
      $("[data-working]", form).hidden = true;
      for (const input of form.querySelectorAll("[data-file]")) {
        input.disabled = false;
        input.value = "";
      }
    });
  } else if (again) {
    document.addEventListener("dragover", (event) => event.preventDefault()); // a photo dropped here replaces no page
    document.addEventListener("drop", (event) => event.preventDefault());
  }

  // --- Results: another face, a filter, more of them, without losing the photo --------------------------------------
  const results = () => $('[data-part="results"]');
  if (!results()) return;
  const live = $("[data-live]");
  const split = $("[data-address]");
  if (split) history.replaceState(null, "", split.dataset.address);

  const withoutHash = (address) => address.split("#")[0];
  let at = withoutHash(location.href); // what the address bar says, to know a step within the page from one to another
  function remember(how, address) {
    history[how](null, "", address);
    at = withoutHash(location.href);
  }

  let swapping = null;
  let adding = null;
  async function pageAt(address, { signal }) {
    const answer = await fetch(address, { signal, credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  }

  const fieldsOf = (filter) => [...filter.querySelectorAll("select, input:not([type=hidden])")];

  // What somebody typed while the answer was on its way is theirs, and is applied when they leave the field.
  function putFilter(page, asked) {
    const here = $("[data-filter]");
    const there = $("[data-filter]", page);
    if (!here || !there) return;
    const theirs = document.adoptNode(there);
    const edited = fieldsOf(here).filter((field) => field.value !== asked.get(field.name));
    if (!edited.length) return here.replaceWith(theirs);
    for (const field of fieldsOf(here)) {
      if (!edited.includes(field)) field.replaceWith($(`[name="${field.name}"]`, theirs));
    }
    $("datalist", here).replaceWith($("datalist", theirs));
    $("[data-region]", here)?.remove();
    here.prepend(...theirs.querySelectorAll("[data-region]"));
    here.action = theirs.getAttribute("action");
  }

  function put(page) {
    for (const name of ["account", "marks", "picks", "notes", "again", "results", "language"]) {
      const here = $(`[data-part="${name}"]`);
      const there = $(`[data-part="${name}"]`, page);
      if (here && there) here.replaceWith(document.adoptNode(there));
    }
    document.title = page.title;
    live.textContent = $("#found").textContent;
    watch();
  }

  async function swap(address, isNew = true) {
    swapping?.abort();
    adding?.abort();
    swapping = new AbortController();
    const filter = $("[data-filter]");
    const asked = filter && new FormData(filter);
    results().setAttribute("aria-busy", "true");
    try {
      const page = await pageAt(address, swapping);
      if (!$('[data-part="results"]', page)) throw new Error("another page");
      const focused = document.activeElement?.closest?.("[data-part], [data-filter]");
      const field = focused?.matches("[data-filter]") && document.activeElement.name;
      put(page);
      putFilter(page, asked);
      if (isNew) remember("pushState", address);
      const same = field && $(`[data-filter] [name="${field}"]`);
      if (focused) (same || ($(".picks [aria-current]") ?? $("#found"))).focus({ preventScroll: true });
    } catch (error) {
      if (error.name === "AbortError") return;
      if (isNew) location.assign(address); // the server says what is wrong on a page of its own
      else location.replace(address);
    }
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-swap], a[data-more]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.matches(".about-image a")) return; // on an image's own page a face leads to a page of results
    event.preventDefault();
    const address = link.href.baseVal ?? link.getAttribute("href");
    if (link.matches("[data-more]")) more(link, true);
    else swap(withoutHash(address));
  });
  const filtered = (filter) => {
    const said = new URLSearchParams([...new FormData(filter)].filter(([, value]) => value));
    swap(String(said) ? `${filter.getAttribute("action")}?${said}` : filter.getAttribute("action"));
  };
  document.addEventListener("change", (event) => {
    const filter = event.target.closest("[data-filter]");
    if (filter) filtered(filter);
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-filter]")) return;
    event.preventDefault();
    filtered(event.target);
  });
  window.addEventListener("popstate", () => {
    const before = at;
    at = withoutHash(location.href);
    if (at !== before) swap(at, false);
  });

  async function more(link, clicked = false) {
    if (results().hasAttribute("aria-busy")) return; // other results are on their way
    if (clicked) link.dataset.clicked = "1";
    if (link.dataset.busy) return;
    link.dataset.busy = "1";
    const asked = (adding = new AbortController());
    try {
      const address = withoutHash(link.href);
      const page = await pageAt(address, asked);
      const lists = ["[data-cards]", "[data-misses]"];
      if (lists.some((name) => !$(name) !== !$(name, page))) {
        put(page); // among the new ones are the first that are not close
      } else {
        for (const name of lists.filter((each) => $(each))) {
          const fresh = [...$(name, page).children].slice($(name).children.length);
          $(name).append(...fresh.map((card) => document.adoptNode(card)));
        }
        $(".after").replaceWith(document.adoptNode($(".after", page)));
        $("#found").textContent = live.textContent = $("#found", page).textContent;
        watch();
      }
      if (new URL(address).pathname === location.pathname) remember("replaceState", address);
    } catch (error) {
      delete link.dataset.busy;
      // The server says what is wrong on a page of its own, to whoever asked; scrolling alone leads nowhere else.
      if (link.dataset.clicked && error.name !== "AbortError") location.assign(link.href);
    }
  }

  let observer = null;
  function watch() {
    observer?.disconnect();
    const link = $("[data-more]");
    if (!link || !("IntersectionObserver" in window)) return;
    observer = new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && more(link), {
      rootMargin: "600px",
    });
    observer.observe(link);
  }
  watch();
})();
