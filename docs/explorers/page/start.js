// Start the explorers of a page: the holder says which, a module draws it, a file has its numbers.

import { element } from "./parts.js";

for (const place of document.querySelectorAll(".explorer[data-explorer]")) {
  start(place, place.dataset.explorer).catch((error) => {
    console.warn(error);
    place.append(element("p", { role: "alert" }, `The explorer did not start: ${error.message}`));
  });
}

async function start(place, name) {
  const [module, data] = await Promise.all([import(`./${name}.js`), fetched(`${name}.json`)]);
  await module.start(place, data);
  place.dataset.started = "yes";
}

async function fetched(file) {
  const answer = await fetch(new URL(file, import.meta.url));
  if (!answer.ok) throw new Error(`got ${answer.status} for ${file}`);
  return answer.json();
}
