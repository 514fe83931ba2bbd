// Putting images in, and following a job. Without this file the form sends all files at once and the job's page is
// brought up to date by loading it again.
(() => {
  "use strict";

  const AT_ONCE = 3; // requests under way; the server decodes two files at a time
  const ASKED_AT_ONCE = 50; // lines in one question, as the server takes them
  const POLL_MS = 1500;
  const SHARE = 10; // the server works at most a tenth of the time for a page that looks
  const POLL_SLOWLY_MS = 8000; // while the server, Redis or the session is away
  const BUSY_TRIES = 5;
  const OVERLAP = 10; // rows that are asked for again to find new ones; fewer than ASKED_AT_ONCE

  const LOGIN = "Your session has ended. Log in again in another tab, then go on here: nothing is lost.";
  const LOGIN_AND_SEND =
    "Your session has ended. Log in again in another tab, then press “Send again all that was not sent” here: nothing is lost.";
  const AWAY_AND_SEND =
    "The server cannot be reached, or has trouble. Sending rests: press “Send again all that was not sent” in a while. Nothing is lost, and what arrived is not stored twice.";

  const { AWAY, SessionEnded, ask, token } = window.visearchTalk;
  class ServerAway extends Error {} // nothing about this file: the next one would not get through either

  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  function linkTo(address, words) {
    const link = document.createElement("a");
    link.className = "vs-link";
    link.href = address;
    link.textContent = words;
    return link;
  }

  // --- What is shown -------------------------------------------------------------------------------------------------

  class View {
    constructor(root) {
      this.root = root;
      this.list = root.querySelector("[data-lines]");
      this.template = root.querySelector("[data-line-template]");
      this.panel = root.querySelector("[data-progress]");
      this.empty = root.querySelector("[data-empty]");
      this.taken = 0; // files that this page was given
    }

    add(name) {
      const row = this.template.content.firstElementChild.cloneNode(true);
      row.querySelector("[data-name]").textContent = name;
      this.list.append(row);
      this.taken += 1;
      return row;
    }

    say(row, state, says, why = "") {
      row.dataset.state = state;
      row.querySelector("[data-says]").textContent = says;
      row.querySelector("[data-why]").textContent = why;
    }

    show(row, line) {
      this.say(row, line.state, line.says, line.why);
      row.dataset.line = line.id;
      row.dataset.finished = line.finished ? "1" : "";
      const link = row.querySelector("[data-link]");
      link.hidden = !line.url;
      if (line.url) link.href = line.url;
      link.textContent = line.state === "duplicate" ? "the one here" : "open";
      const choose = row.querySelector("[data-choose]");
      choose.hidden = !line.choose;
      if (line.choose) choose.href = line.choose;
      const place = row.querySelector("[data-thumb]");
      if (line.thumbnail && !place.firstElementChild) {
        const image = document.createElement("img");
        image.src = line.thumbnail;
        image.alt = "";
        image.loading = "lazy";
        place.append(image);
      }
    }

    part(name) {
      return this.panel.querySelector(`[data-${name}]`);
    }

    progress(progress) {
      const total = Math.max(progress.total, this.taken); // what is not sent yet is no line of the job
      const bar = this.part("bar");
      bar.max = Math.max(1, total);
      bar.value = progress.finished;
      this.part("done").textContent = `${progress.finished} of ${total} finished`;
      this.part("pace").textContent = progress.pace;
      this.part("counts").replaceChildren(
        ...progress.counts.map((count) => {
          const item = document.createElement("li");
          const words = `${count.number} ${count.name}`;
          item.append(count.url ? linkTo(count.url, words) : words);
          return item;
        }),
      );
      this.troubles(progress);
      this.tell("notice", progress.notice);
      this.state(progress);
    }

    // The latest failure, and what waits for what.
    troubles({ failure, reasons }) {
      const place = this.part("failure");
      place.hidden = !failure;
      if (failure) place.querySelector("a").replaceWith(linkTo(failure.url, failure.words));
      this.part("reasons").replaceChildren(
        ...reasons.map((reason) => {
          const item = document.createElement("li");
          item.textContent = reason;
          return item;
        }),
      );
    }

    // On the page of a job: its state, and the buttons that would do anything now.
    state(progress) {
      const says = this.root.querySelector("[data-job-says]");
      if (!says) return;
      says.textContent = progress.says;
      says.closest("[data-job-state]").dataset.jobState = progress.state;
      for (const form of this.root.querySelectorAll("[data-do]")) form.hidden = !progress.may[form.dataset.do];
    }

    tell(part, words) {
      const place = this.part(part);
      place.textContent = words;
      place.hidden = !words;
    }
  }

  // --- Following -----------------------------------------------------------------------------------------------------

  class Follower {
    // unsent: how many files are still to be sent; isTroubled: whether sending has something to say of its own.
    // room: up to how many rows the list may grow by lines that others add; until: when such are no longer expected.
    constructor(view, url, { unsent = () => 0, isTroubled = () => false, room = 0, until = 0 } = {}) {
      Object.assign(this, { view, url, unsent, isTroubled, room, until });
      this.isRunning = false;
    }

    unfinished() {
      return [...this.view.list.querySelectorAll('[data-line]:not([data-finished="1"])')];
    }

    async start() {
      if (this.isRunning) return;
      this.isRunning = true;
      for (;;) {
        const isSettled = this.unsent() === 0 && this.unfinished().length === 0; // before the look, which is then the last
        let pause = POLL_MS;
        const began = Date.now();
        try {
          const answer = await this.look();
          if (!answer) break;
          const isThrough = isSettled && answer.progress.waiting === 0;
          if (isThrough && Date.now() > this.until) break;
          if (isThrough || answer.progress.notice || answer.progress.state === "paused") pause = POLL_SLOWLY_MS;
          if (!this.isTroubled()) this.view.tell("trouble", "");
        } catch (error) {
          this.view.tell("trouble", error instanceof SessionEnded ? LOGIN : AWAY);
          pause = POLL_SLOWLY_MS;
        }
        await wait(Math.max(pause, SHARE * (Date.now() - began)));
      }
      this.isRunning = false;
    }

    async look() {
      const rows = this.unfinished().slice(0, ASKED_AT_ONCE); // workers take the oldest first, and so do we
      const asked = new URLSearchParams({ lines: rows.map((row) => row.dataset.line).join(",") });
      if (this.view.list.children.length < this.room) asked.set("after", this.overlap());
      const response = await ask(`${this.url}?${asked}`);
      if (response.status === 404) {
        this.view.tell("trouble", "This job is gone: it was deleted, or its collection, or that is no longer yours.");
        return null;
      }
      if (!response.ok) throw new Error(String(response.status));
      const answer = await response.json();
      const known = new Map(answer.lines.map((line) => [line.id, line]));
      for (const row of rows) {
        const line = known.get(row.dataset.line);
        if (line) this.view.show(row, line);
      }
      this.append(answer.new || []);
      this.view.progress(answer.progress);
      return answer;
    }

    // Lines of requests side by side come in almost the order of their ids: ask from a few before the last on.
    overlap() {
      return this.view.list.children[this.view.list.children.length - OVERLAP]?.dataset.line || "";
    }

    append(lines) {
      const known = new Set([...this.view.list.children].map((row) => row.dataset.line));
      for (const line of lines) {
        if (known.has(line.id) || this.view.list.children.length >= this.room) continue;
        this.view.show(this.view.add(line.source), line);
        if (this.view.empty) this.view.empty.hidden = true;
      }
    }
  }

  // --- Sending -------------------------------------------------------------------------------------------------------

  class Uploader {
    constructor(root) {
      this.root = root;
      this.form = root.querySelector("form");
      this.input = root.querySelector("input[type=file]");
      this.drop = root.querySelector(".vs-drop");
      this.view = new View(root);
      this.againAll = root.querySelector("[data-again-all]");
      this.queue = [];
      this.unsent = new Map(); // row -> file, of those that were tried in vain
      this.sending = 0;
      this.isPaused = false;
      this.follower = new Follower(this.view, root.dataset.linesUrl, {
        unsent: () => this.queue.length + this.sending,
        isTroubled: () => this.isPaused,
      });
    }

    begin() {
      this.input.hasChangeListener = true; // Unfold's script would look for its own text field beside this one
      this.root.querySelector("[data-without-script]").hidden = true;
      this.root.querySelector("[data-with-script]").hidden = false;
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.input.addEventListener("change", () => {
        this.take([...this.input.files]);
        this.input.value = ""; // the same choice again is a new one
      });
      this.againAll.addEventListener("click", () => this.sendAgain([...this.unsent.keys()]));
      this.takeDrops();
      window.addEventListener("beforeunload", (event) => {
        if (this.queue.length + this.sending > 0) event.preventDefault();
      });
    }

    takeDrops() {
      const over = (isOver) => this.drop.classList.toggle("vs-over", isOver);
      for (const kind of ["dragenter", "dragover"]) {
        this.drop.addEventListener(kind, (event) => {
          event.preventDefault();
          over(true);
        });
      }
      this.drop.addEventListener("dragleave", () => over(false));
      this.drop.addEventListener("drop", async (event) => {
        event.preventDefault();
        over(false);
        this.take(await filesOf(event.dataTransfer));
      });
      // A file dropped beside the zone would replace this page.
      for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
    }

    take(files) {
      if (files.length === 0) return;
      this.root.querySelector("[data-follow]").hidden = false;
      for (const file of files) {
        const row = this.view.add(file.name);
        this.view.say(row, "queued", "not sent yet");
        this.queue.push({ file, row });
      }
      this.fill();
    }

    fill() {
      while (!this.isPaused && this.sending < AT_ONCE && this.queue.length > 0) {
        this.sending += 1;
        const next = this.queue.shift();
        this.send(next).finally(() => {
          this.sending -= 1;
          this.fill();
        });
      }
    }

    async send({ file, row }) {
      this.view.say(row, "receiving", "sending");
      try {
        const line = await this.post(file);
        this.view.show(row, line);
        this.follower.start();
      } catch (error) {
        if (error instanceof SessionEnded) this.pause(LOGIN_AND_SEND);
        if (error instanceof ServerAway) this.pause(AWAY_AND_SEND);
        this.notSent(file, row, error instanceof SessionEnded ? "Your session has ended." : error.message);
      }
    }

    async post(file) {
      const { response, said } = await this.answer(file);
      if (response.ok) return said;
      if (response.status >= 500) throw new ServerAway(said.detail || `The server has trouble (${response.status}).`);
      if (response.status === 403) throw new Error("You may no longer put images in here, or this page is too old: load it again.");
      if (response.status === 404) throw new Error("The collection is gone, or no longer yours.");
      throw new Error(said.detail || `The server could not take it (${response.status}). Nothing of it was kept.`);
    }

    // Somebody else's turn is over soon: try again a few times before saying so.
    async answer(file) {
      for (let tries = 1; ; tries += 1) {
        let answered;
        try {
          const response = await ask(this.form.action, { method: "POST", body: this.body(file) });
          const isJson = (response.headers.get("Content-Type") || "").includes("json");
          answered = { response, said: isJson ? await response.json() : {} };
        } catch (error) {
          if (error instanceof SessionEnded) throw error;
          if (!(await isReadable(file))) throw new Error("The file changed or went meanwhile. Choose it again.");
          throw new ServerAway("The server cannot be reached.");
        }
        if (answered.response.status !== 503 || tries === BUSY_TRIES) return answered;
        await wait(1000 * tries);
      }
    }

    body(file) {
      const body = new FormData();
      body.set("csrfmiddlewaretoken", token());
      body.set("job", this.root.dataset.job);
      body.set("name", file.name);
      if (file.size > Number(this.root.dataset.bytes)) body.set("too_large", String(file.size));
      else body.set("images", file, file.name);
      return body;
    }

    notSent(file, row, why) {
      this.view.say(row, "failed", "not sent", why);
      this.unsent.set(row, file);
      const again = row.querySelector("[data-again]");
      again.hidden = this.againAll.hidden = false;
      again.onclick = () => this.sendAgain([row]);
    }

    sendAgain(rows) {
      for (const row of rows) {
        row.querySelector("[data-again]").hidden = true;
        this.view.say(row, "queued", "not sent yet");
        this.queue.push({ file: this.unsent.get(row), row });
        this.unsent.delete(row);
      }
      this.againAll.hidden = this.unsent.size === 0;
      this.isPaused = false;
      this.view.tell("trouble", "");
      this.fill();
    }

    pause(words) {
      this.isPaused = true;
      this.view.tell("trouble", words);
    }
  }

  // A request fails alike where the network is gone and where the file is.
  async function isReadable(file) {
    try {
      await file.slice(0, 1).arrayBuffer();
      return true;
    } catch (error) {
      return false;
    }
  }

  // Files of a drop, those in folders too.
  async function filesOf(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    if (entries.length === 0) return [...transfer.files];
    return (await Promise.all(entries.map(filesIn))).flat();
  }

  async function filesIn(entry) {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
      if (some.length === 0) break;
      found.push(...(await Promise.all(some.map(filesIn))).flat());
    }
    return found;
  }

  function begin() {
    for (const root of document.querySelectorAll("[data-upload]")) new Uploader(root).begin();
    for (const root of document.querySelectorAll("[data-job-page]")) {
      const until = Date.now() + 1000 * Number(root.dataset.secondsYoung);
      const room = Number(root.dataset.room);
      const follower = new Follower(new View(root), root.dataset.linesUrl, { until, room });
      if (Number(root.dataset.waiting) > 0 || until > Date.now()) follower.start();
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
