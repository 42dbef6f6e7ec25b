/* The form that asks where a request would go; it isn't sent there. */

const EXAMPLE = '{"messages": [{"role": "user", "content": "Hello"}]}';

function Verdict({ role }) {
  return html`<div>
    <h3>${role.role} by ${role.policy}: ${role.choice ? hostOf(role.choice) : "nobody"}</h3>
    <p>${role.reason}</p>
    <${Scrollable} label=${`Candidates, ${role.role}`}>
      <table>
        <thead><tr><th scope="col">Instance</th><th scope="col">State</th><th scope="col" class="number">Running</th>
          <th scope="col" class="number">Hit</th><th scope="col" class="number">Load</th><th scope="col" class="number">Score</th></tr></thead>
        <tbody>${role.candidates.map((one) => html`<tr key=${one.url}>
          <th scope="row">${one.url === role.choice ? "→ " : one.best ? "= " : ""}${hostOf(one.url)}</th><td>${one.state}</td>
          <td class="number">${count(one.running)}</td>
          <td class="number">${one.prefix_hit_percent === null ? DASH : `${one.prefix_hit_percent} %`}</td>
          <td class="number">${figure(one.load)}</td><td class="number">${figure(one.score)}</td></tr>`)}</tbody>
      </table>
    <//>
  </div>`;
}

function Explain({ seesAll, send }) {
  const [answer, setAnswer] = useState(null);
  const [problem, setProblem] = useState("");
  const body = useRef();
  const onSubmit = async (event) => {
    event.preventDefault();
    try {
      setAnswer(await send("POST", "explain", body.current.value));
      setProblem("");
    } catch (error) {
      setAnswer(null);
      setProblem(error.message);
    }
  };
  return html`<section aria-labelledby="explain">
    <h2 id="explain">Explain <span class="note">where a request would go now; it isn't sent</span></h2>
    ${!seesAll && html`<p>Log in to ask.</p>`}
    ${seesAll && html`<form onSubmit=${onSubmit}>
      <label for="request">The request's body, as JSON</label>
      <textarea id="request" ref=${body} rows="4" spellcheck="false">${EXAMPLE}</textarea>
      <button type="submit">Explain</button>
    </form>
    <div role="status">
      ${problem && html`<p class="bad">${problem}</p>`}
      ${answer && html`<p>${count(answer.prompt.characters)} characters, ${answer.prompt.estimated ? "about " : ""}${count(answer.prompt.tokens)} tokens${answer.model ? `, served as ${answer.model.served_as}` : ""}</p>`}
      ${answer && answer.roles.map((role) => html`<${Verdict} key=${role.role} role=${role} />`)}
    </div>`}
  </section>`;
}
