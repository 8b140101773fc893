// What every page does: follows news, carries out actions, logs in and out.
const texts = document.getElementById("texts").dataset;
const csrf = document.querySelector("meta[name=csrf]").content;
const told = document.getElementById("told");

const tell = (text, wrong = false) => {
  const line = document.createElement("p");
  line.textContent = text;
  line.className = wrong ? "wrong" : "good";
  told.append(line);
  setTimeout(() => line.remove(), wrong ? 20000 : 5000);
};

const toLogin = () => {
  const here = location.pathname + location.search;
  location.assign(`/ui/login?ended=1&next=${encodeURIComponent(here)}`);
};

const problem = async (answer) => {
  try {
    const found = await answer.json();
    return found.problems.map((each) => `${each.message}${each.remedy ? ` -> ${each.remedy}` : ""}`).join("; ");
  } catch {
    return `${answer.status}`;
  }
};

const call = (path, body) =>
  fetch(path, {
    method: "POST",
    headers: { "X-CSRF-Token": csrf, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

// --- logging in and out

const login = document.getElementById("login");
login?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const wrong = document.getElementById("wrong");
  wrong.textContent = "";
  const values = Object.fromEntries(new FormData(login));
  const answer = await call("/login", values);
  if (answer.ok) location.assign(login.dataset.target);
  else wrong.textContent = await problem(answer);
});

document.getElementById("logout")?.addEventListener("click", async () => {
  await call("/logout");
  location.assign("/ui/login");
});

// Pages read again at once, and after many changes once more when they are over: none may be the last and not be seen.
const PAUSE = 300; // ms between two readings
let later = 0;
let read = -PAUSE;
const changed = () => {
  if (later) return;
  const tellPages = () => {
    later = 0;
    read = performance.now();
    document.body.dispatchEvent(new CustomEvent("changed"));
  };
  const rest = read + PAUSE - performance.now();
  if (rest <= 0) tellPages();
  else later = setTimeout(tellPages, rest);
};

// --- actions

const asked = (text) =>
  new Promise((resolve) => {
    const dialog = document.getElementById("ask");
    document.getElementById("asked").textContent = text;
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });

const ROLES = ["prim", "second", "swap"];
document.body.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  const { act, module, nodes, ask } = button.dataset;
  if (ask && !(await asked(ask))) return;
  button.disabled = true;
  await Promise.all(
    nodes.split(",").map(async (node) => {
      const base = `/nodes/${encodeURIComponent(node)}/api/v1/modules/${encodeURIComponent(module)}`;
      const answer = await (ROLES.includes(act) ? call(`${base}/role/${act}`, { arguments: [] }) : call(`${base}/${act}`));
      if (answer.status === 401) toLogin();
      else if (answer.ok) tell(`${act} ${module}, ${node}: ${(await answer.json()).done ? texts.done : texts.accepted}`);
      else tell(`${act} ${module}, ${node}: ${await problem(answer)}`, true);
    }),
  );
  button.disabled = false;
  changed();
});

// --- news

const SILENT = 9000; // ms: the server says every 3 s that it is there
const live = document.getElementById("live");
if (csrf) {
  const follow = () => {
    const events = new EventSource("/ui/events");
    let heard = Date.now();
    const watch = setInterval(() => {
      // A server without power ends no connection.
      if (Date.now() - heard > SILENT) events.dispatchEvent(new Event("error"));
    }, 1000);
    for (const each of ["hello", "change", "alive"]) events.addEventListener(each, () => (heard = Date.now()));
    events.addEventListener("hello", () => {
      live.textContent = texts.live;
      live.classList.add("on");
      changed();
    });
    events.addEventListener("change", changed);
    events.addEventListener("error", async () => {
      live.textContent = texts.lost;
      live.classList.remove("on");
      events.close();
      clearInterval(watch);
      try {
        const answer = await fetch("/session", { signal: AbortSignal.timeout(3000) });
        if (answer.status === 401) return toLogin();
      } catch {
        // The server is away: it is tried again.
      }
      setTimeout(follow, 2000);
    });
  };
  follow();
  document.body.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 401) toLogin();
  });
}

// --- times, in the time zone of whoever looks

const times = () => {
  for (const each of document.querySelectorAll("time[data-time]:not([datetime])")) {
    const moment = new Date(Number(each.dataset.time) * 1000);
    if (Number.isNaN(moment.getTime())) continue;
    each.dateTime = moment.toISOString();
    each.textContent = moment.toLocaleString(document.documentElement.lang);
  }
};
times();
document.body.addEventListener("htmx:afterSwap", times);
