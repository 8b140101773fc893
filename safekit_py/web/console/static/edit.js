// The files of a module: changed here, compared, checked on all servers, and saved on all or none.
const form = document.getElementById("edit");
const by = (id) => document.getElementById(id);
const [server, file, text, found, shown] = ["server", "file", "text", "found", "difference"].map(by);
const nodes = form.dataset.nodes.split(",").filter(Boolean);
const name = encodeURIComponent(form.dataset.name);
const csrf = document.querySelector("meta[name=csrf]").content;
const BINARY = /^sha256 [0-9a-f]{64}\n$/;
let before = {};
let after = {};

const tell = (words, wrong, place = null) => {
  const item = document.createElement("li");
  item.className = wrong ? "wrong" : "good";
  if (place) {
    const jump = document.createElement("button");
    jump.type = "button";
    jump.textContent = `${form.dataset.line} ${place.line}`;
    jump.addEventListener("click", () => {
      open(place.path);
      const lines = text.value.split("\n");
      const begin = lines.slice(0, place.line - 1).join("\n").length + (place.line > 1 ? 1 : 0);
      text.focus();
      text.setSelectionRange(begin, begin + (lines[place.line - 1] ?? "").length);
    });
    item.append(jump, " ");
  }
  item.append(words);
  found.append(item);
};

const ask = (node, path, options = {}) =>
  fetch(`/nodes/${encodeURIComponent(node)}/api/v1${path}`, { ...options, headers: { "X-CSRF-Token": csrf, ...options.headers } });

const make = async (what, value) => {
  const answer = await fetch(`/ui/do/${what}`, {
    method: "POST",
    body: JSON.stringify(value),
    headers: { "X-CSRF-Token": csrf, "Content-Type": "application/json" },
  });
  if (!answer.ok) throw new Error((await answer.json()).problems[0].message);
  return answer;
};

const open = (path) => {
  file.value = path;
  text.value = after[path] ?? "";
};

const list = () => {
  const now = file.value;
  file.replaceChildren(...Object.keys(after).sort().map((path) => new Option(path)));
  open(now in after ? now : "conf/userconfig.xml");
};

const load = async () => {
  const answer = await ask(server.value, `/configurations/${name}/files`);
  if (!answer.ok) return tell((await answer.json()).problems[0].message, true);
  before = (await answer.json()).files;
  after = { ...before };
  const binary = Object.values(before).some((each) => BINARY.test(each));
  if (binary) tell(`${form.dataset.name} ${form.dataset.binary}`, true);
  for (const id of ["check", "save", "add"]) by(id).disabled = binary;
  list();
  await past();
};

const past = async () => {
  const answer = await ask(server.value, `/configurations/${name}`);
  if (!answer.ok) return;
  const rows = (await answer.json()).versions.toReversed().map((each) => {
    const row = document.createElement("tr");
    for (const words of [each.number, new Date(each.time * 1000).toLocaleString(document.documentElement.lang), each.cause, each.signature]) {
      row.insertCell().textContent = words;
    }
    const last = row.insertCell();
    if (each.active) last.textContent = form.dataset.active;
    else {
      const again = document.createElement("button");
      again.type = "button";
      again.textContent = form.dataset.restore;
      again.addEventListener("click", async () => {
        found.replaceChildren();
        const done = await ask(server.value, `/configurations/${name}/versions/${each.number}?apply=${by("apply").checked}`, { method: "POST" });
        const said = await done.json();
        tell(`${server.value}: ${done.ok ? said.text : said.problems.map((one) => one.message).join("; ")}`, !done.ok);
        if (done.ok) await load();
      });
      last.append(again);
    }
    return row;
  });
  by("versions").replaceChildren(...rows);
};

const changed = () => JSON.stringify(before) !== JSON.stringify(after);

const compare = async () => {
  const answer = await make("difference", { before, after });
  shown.textContent = (await answer.text()) || form.dataset.same;
  shown.hidden = false;
};

// What servers say that several say is told once. Answers those that did it.
const everywhere = async (query, body) => {
  const said = new Map();
  const done = await Promise.all(
    nodes.map(async (node) => {
      const answer = await ask(node, `/modules/${name}${query}`, { method: "PUT", body, headers: { "Content-Type": "application/zip" } });
      for (const each of (await answer.json()).problems ?? []) {
        const words = `[${each.code}] ${each.message}${each.remedy ? ` -> ${each.remedy}` : ""}`;
        const place = each.line && each.file?.endsWith("userconfig.xml") ? { path: "conf/userconfig.xml", line: each.line } : null;
        const known = said.get(words) ?? { servers: [], place, wrong: each.severity === "error" || !answer.ok };
        known.servers.push(node);
        said.set(words, known);
      }
      return answer.ok ? node : "";
    }),
  );
  for (const [words, about] of said) tell(`${nodes.filter((node) => about.servers.includes(node)).join(", ")}: ${words}`, about.wrong, about.place);
  return done.filter(Boolean);
};

const check = async () => {
  found.replaceChildren();
  if (!changed()) {
    tell(form.dataset.same, false);
    return null;
  }
  if (form.dataset.nodes !== form.dataset.all) {
    tell(form.dataset.missing, true);
    return null;
  }
  try {
    const data = await (await make("archive", { module: form.dataset.name, files: after })).blob();
    if ((await everywhere(`?check=true&apply=${by("apply").checked}`, data)).length < nodes.length) return null;
    tell(form.dataset.good, false);
    return data;
  } catch (error) {
    tell(error.message, true);
    return null;
  }
};

const sure = () =>
  new Promise((resolve) => {
    const dialog = by("ask");
    by("asked").textContent = form.dataset.ask;
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });

const save = async () => {
  const data = await check();
  if (!data) return;
  await compare();
  if (!(await sure())) return;
  const old = await (await make("archive", { module: form.dataset.name, files: before })).blob();
  const query = `?apply=${by("apply").checked}`;
  const done = await everywhere(query, data);
  if (done.length < nodes.length) {
    await Promise.all(done.map((node) => ask(node, `/modules/${name}${query}`, { method: "PUT", body: old })));
    return;
  }
  tell(form.dataset.saved, false);
  shown.hidden = true;
  await load();
};

server.addEventListener("change", load);
file.addEventListener("change", () => open(file.value));
text.addEventListener("input", () => (after[file.value] = text.value));
by("add").addEventListener("click", () => {
  const path = by("fresh").value.trim();
  if (!path) return;
  after[path] ??= "#!/bin/sh\n";
  by("fresh").value = "";
  list();
  open(path);
});
form.addEventListener("submit", (event) => event.preventDefault());
for (const [id, action] of [["compare", compare], ["check", check], ["save", save]]) {
  by(id).addEventListener("click", async (event) => {
    event.target.disabled = true;
    await action();
    event.target.disabled = false;
  });
}
await load();
