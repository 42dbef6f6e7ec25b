/* The fleet: a row for each instance, by role and model. */

const STEP = 200;
const MARKS = { healthy: "●", suspect: "◐", unhealthy: "○", removed: "✕" };

function found(instances, filter) {
  const wanted = filter.trim().toLowerCase();
  if (!wanted) return instances;
  return instances.filter((one) =>
    `${one.key} ${one.role} ${one.state} ${one.flags.join(" ")} ${one.models.join(" ")}`.toLowerCase().includes(wanted));
}

function groupsOf(instances) {
  const groups = new Map();
  for (const one of instances) {
    const name = one.models.length ? `${one.role} · ${one.models.join(", ")}` : one.role;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(one);
  }
  return [...groups].sort(([one], [other]) => one.localeCompare(other));
}

function isServing(one) {
  return one.state === "healthy" && !one.flags.some((flag) => flag !== "full");
}

/* The keys of those that get a row: a browser that draws thousands anew each second does nothing else. Whoever needs a look comes first. */
function drawnOf(instances, limit) {
  const drawn = instances.length <= limit ? instances
    : [...instances.filter((one) => !isServing(one)), ...instances.filter(isServing)].slice(0, limit);
  return new Set(drawn.map((one) => one.key));
}

function State({ one }) {
  const state = isServing(one) ? "good" : one.state === "healthy" ? "warn" : "bad";
  const words = [one.state, ...one.flags];
  if (one.circuit === "half-open") words.push("circuit half-open");
  return html`<span class="state ${state}"><span aria-hidden="true">${MARKS[one.state] || "?"}</span> ${words.join(", ")}</span>`;
}

function Actions({ one, ask }) {
  if (one.state === "removed") return null;
  const isDraining = one.flags.includes("draining");
  return html`
    <button type="button" onClick=${() => ask(isDraining ? "undrain" : "drain", one)}
      aria-label=${`${isDraining ? "Undrain" : "Drain"} ${one.key}`}>${isDraining ? "Undrain" : "Drain"}</button>
    <button type="button" onClick=${() => ask("remove", one)} aria-label=${`Remove ${one.key}`}>Remove</button>`;
}

function Row({ one, history, ask, mayChange, hasCache }) {
  return html`<tr data-key=${one.key}>
    <th scope="row">${one.key}</th>
    <td><${State} one=${one} /></td>
    <td class="number">${count(one.running)}${one.limit ? ` / ${count(one.limit)}` : ""}</td>
    <td class="number">${count(one.tokens)}</td>
    ${hasCache && html`<td class="number">${count(one.cached_blocks)}</td>`}
    <td class="number">${rate(one.rate ?? 0)}</td>
    <td class="number">${rate(one.failed ?? 0)}</td>
    <td class="number first">${milliseconds(one.ttft_ms)}</td>
    <td><${Sparkline} values=${history} /></td>
    ${mayChange && html`<td class="actions"><${Actions} one=${one} ask=${ask} /></td>`}
  </tr>`;
}

function Group({ name, members, drawn, columns, ...rest }) {
  const serving = members.filter(isServing).length;
  const { histories, ...shared } = rest;
  return html`<tbody>
    <tr class="group"><th scope="rowgroup" colspan=${columns}>${name} <span class="note">${serving} of ${members.length} may be chosen</span></th></tr>
    ${members.filter((one) => drawn.has(one.key)).map((one) => html`<${Row} key=${one.key} one=${one} history=${histories.get(one.key)} ...${shared} />`)}
  </tbody>`;
}

function Fleet({ state, histories, ask, mayChange }) {
  const [filter, setFilter] = useState("");
  const [limit, setLimit] = useState(STEP);
  const instances = found(state.instances, filter);
  const groups = groupsOf(instances);
  const drawn = drawnOf(instances, limit);
  const hasCache = state.instances.some((one) => one.cached_blocks !== null);
  const columns = 8 + (hasCache ? 1 : 0) + (mayChange ? 1 : 0);
  const serving = state.instances.filter(isServing).length;
  return html`<section aria-labelledby="fleet">
    <h2 id="fleet">Fleet <span class="note">${serving} of ${state.instances.length} instances may be chosen</span></h2>
    ${state.instances.length > 8 && html`<p><label>Show only <input type="search" value=${filter} placeholder="10.0.0. or draining"
      onInput=${(event) => setFilter(event.currentTarget.value)} /></label></p>`}
    ${drawn.size < instances.length && html`<p>${count(drawn.size)} of ${count(instances.length)} have a row, first those that can't be chosen. <button type="button"
      onClick=${() => setLimit(limit + STEP)}>Show ${STEP} more</button></p>`}
    ${!state.instances.length && html`<p>No instance has registered: start them with --router, or name them in register.yaml.</p>`}
    ${groups.length > 0 && html`<${Scrollable} label="Instances">
      <table>
        <thead><tr><th scope="col">Instance</th><th scope="col">State</th><th scope="col" class="number">Running</th>
          <th scope="col" class="number">Prompt tokens</th>${hasCache && html`<th scope="col" class="number">Cached blocks</th>`}
          <th scope="col" class="number">Requests</th><th scope="col" class="number">Failed</th>
          <th scope="col" class="number">First token</th><th scope="col">Last minute</th>
          ${mayChange && html`<th scope="col">Actions</th>`}</tr></thead>
        ${groups.map(([name, members]) => html`<${Group} key=${name} name=${name} members=${members} drawn=${drawn} columns=${columns}
          histories=${histories} ask=${ask} mayChange=${mayChange} hasCache=${hasCache} />`)}
      </table>
    <//>`}
  </section>`;
}
