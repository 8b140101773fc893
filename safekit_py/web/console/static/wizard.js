// The way to a new module. The configuration's text is what counts; the fields are its macros.
const form = document.getElementById("wizard");
const [kind, file, name, values, xml, found] = ["kind", "file", "name", "values", "xml", "found"].map((id) => document.getElementById(id));
const nodes = form.dataset.nodes.split(",");
const csrf = document.querySelector("meta[name=csrf]").content;
const MACRO = /<macro\s+name="([^"]+)"\s+value="([^"]*)"\s*\/>/g;
let shipped = [];

const escaped = (text) => text.replace(/[&<>"]/g, (each) => `&#${each.charCodeAt(0)};`);
const plain = (text) => new DOMParser().parseFromString(`<i>${text.replaceAll("<", "&lt;")}</i>`, "text/html").body.textContent;

const fields = () => {
  values.querySelectorAll("label").forEach((each) => each.remove());
  for (const [, macro, value] of xml.value.matchAll(MACRO)) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    label.textContent = `${macro} `;
    input.value = plain(value);
    input.addEventListener("input", () => {
      xml.value = xml.value.replace(MACRO, (whole, each) => (each === macro ? `<macro name="${each}" value="${escaped(input.value)}"/>` : whole));
    });
    label.append(input);
    values.append(label);
  }
};

const choose = () => {
  const chosen = shipped.find((each) => each.name === kind.value);
  if (!chosen) return;
  file.value = "";
  xml.disabled = false;
  xml.value = chosen.xml;
  name.value = chosen.name;
  fields();
};

const tell = (text, wrong, line = 0) => {
  const item = document.createElement("li");
  item.className = wrong ? "wrong" : "good";
  if (line) {
    const jump = document.createElement("button");
    jump.type = "button";
    jump.textContent = `${form.dataset.line} ${line}`;
    jump.addEventListener("click", () => {
      const lines = xml.value.split("\n");
      const begin = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
      xml.focus();
      xml.setSelectionRange(begin, begin + (lines[line - 1] ?? "").length);
    });
    item.append(jump, " ");
  }
  item.append(text);
  found.append(item);
};

const archive = async () => {
  if (file.files.length) return file.files[0];
  const body = JSON.stringify({ module: kind.value, xml: xml.value });
  const answer = await fetch("/ui/do/archive", { method: "POST", body, headers: { "X-CSRF-Token": csrf, "Content-Type": "application/json" } });
  if (!answer.ok) throw new Error((await answer.json()).problems[0].message);
  return answer.blob();
};

const api = (node, method, query = "", body = undefined) =>
  fetch(`/nodes/${encodeURIComponent(node)}/api/v1/modules/${encodeURIComponent(name.value)}${query}`, {
    method,
    body,
    headers: { "X-CSRF-Token": csrf, ...(body ? { "Content-Type": "application/zip" } : {}) },
  });

// Whether all servers did it; what is said by several is told once.
const everywhere = async (query, body) => {
  const said = new Map();
  const done = await Promise.all(
    nodes.map(async (node) => {
      const answer = await api(node, "PUT", query, body);
      for (const each of (await answer.json()).problems ?? []) {
        const place = each.file?.endsWith("userconfig.xml") ? each.line : 0;
        const text = `[${each.code}] ${each.message}${each.remedy ? ` -> ${each.remedy}` : ""}`;
        const known = said.get(text) ?? { servers: [], place, wrong: each.severity === "error" || !answer.ok };
        known.servers.push(node);
        said.set(text, known);
      }
      return answer.ok ? node : "";
    }),
  );
  for (const [text, about] of said) tell(`${nodes.filter((node) => about.servers.includes(node)).join(", ")}: ${text}`, about.wrong, about.place);
  return done.filter(Boolean);
};

const check = async () => {
  found.replaceChildren();
  document.getElementById("goon").hidden = true;
  if (!form.reportValidity()) return null;
  try {
    const data = await archive();
    const there = await Promise.all(nodes.map(async (node) => (await api(node, "GET")).status === 200));
    if (there.some(Boolean)) {
      tell(form.dataset.there, true);
      return null;
    }
    const good = await everywhere("?check=true", data);
    if (good.length < nodes.length) return null;
    tell(form.dataset.good, false);
    return data;
  } catch (error) {
    tell(error.message, true);
    return null;
  }
};

const install = async () => {
  const data = await check();
  if (!data) return;
  const done = await everywhere("", data);
  if (done.length < nodes.length) {
    await Promise.all(done.map((node) => api(node, "DELETE")));
    tell(form.dataset.undone, true);
    return;
  }
  tell(form.dataset.installed, false);
  const on = document.getElementById("goon");
  on.href = `/ui/module/${encodeURIComponent(name.value)}`;
  on.hidden = false;
  on.focus();
};

kind.addEventListener("change", choose);
xml.addEventListener("change", fields);
file.addEventListener("change", () => {
  if (!file.files.length) return choose();
  name.value = file.files[0].name.replace(/\.[^.]*$/, "");
  xml.value = "";
  xml.disabled = true;
  fields();
});
form.addEventListener("submit", (event) => event.preventDefault());
for (const [id, action] of [["check", check], ["install", install]]) {
  document.getElementById(id).addEventListener("click", async (event) => {
    event.target.disabled = true;
    await action();
    event.target.disabled = false;
  });
}

shipped = await (await fetch("/ui/data/shipped")).json();
for (const each of shipped) {
  const option = document.createElement("option");
  option.value = each.name;
  option.textContent = each.title ? `${each.name}: ${each.title}` : each.name;
  kind.append(option);
}
choose();
