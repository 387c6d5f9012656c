"use strict";

/** Make an element with text and children; text is never read as HTML. */
function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function typeOf(schema) {
  const kinds = (schema.anyOf || [schema]).map((each) => (each.items ? `list of ${each.items.type}s` : each.format || each.type));
  return kinds.filter((kind) => kind !== "null").join(" or ");
}

function fields(content) {
  const { properties, required } = content.schema;
  const rows = Object.entries(properties).map(([name, schema]) =>
    make("tr", "", make("td", "", make("code", name)), make("td", typeOf(schema)), make("td", (required.includes(name) ? "Needed. " : "") + (schema.description || ""))));
  return make("table", "", make("tbody", "", ...rows));
}

function operation(path, method, about) {
  const section = make("section", "", make("h2", "", make("code", `${method.toUpperCase()} ${path}`)), make("p", about.summary || ""));
  for (const [kind, content] of Object.entries((about.requestBody || { content: {} }).content)) {
    section.append(make("h3", kind), ...(content.schema.properties ? [fields(content)] : []));
  }
  const answers = Object.entries(about.responses || {}).map(([status, answer]) => make("li", "", make("code", status), ` ${answer.description}`));
  section.append(make("details", "", make("summary", "Answers"), make("ul", "", ...answers)));
  return section;
}

async function show() {
  const list = document.getElementById("operations");
  const { paths } = await (await fetch("/openapi.json")).json();
  const sections = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, about]) => operation(path, method, about)));
  list.replaceChildren(...sections);
}

show();
