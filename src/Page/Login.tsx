/** Asks for an API key. The key goes to the service once and is forgotten here, whatever the answer is. */
import { useId, useRef, useState } from "preact/hooks"
import * as Client from "./Client.js"
import { useWait } from "./Retry.js"
import * as Session from "./Session.js"

export const Login = ({ title }: { readonly title: string }) => {
  const id = useId()
  const field = useRef<HTMLInputElement>(null)
  const [isSending, send] = useState(false)
  const [error, fail] = useState<Client.ServiceError | undefined>(undefined)
  const wait = useWait(error)
  const submit = async (event: Event) => {
    event.preventDefault()
    const input = field.current
    if (input === null || isSending || wait !== undefined) return
    if (input.value === "") return input.focus()
    send(true)
    try {
      Session.open(await Client.logIn(input.value.trim()))
    } catch (thrown) {
      fail(Client.toError(thrown))
      input.focus()
    } finally {
      input.value = ""
      send(false)
    }
  }
  return (
    <form class="login panel stack" onSubmit={(event) => void submit(event)} aria-labelledby={`${id}-title`}>
      <h1 id={`${id}-title`}>{title}</h1>
      <p class="quiet">
        With an API key of this service that has the scope <code>manage</code> and is not limited to some users.
      </p>
      <div class="field">
        <label for={id}>API key</label>
        <input
          ref={field}
          id={id}
          type="password"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          autofocus
          required
          aria-invalid={error !== undefined}
          aria-describedby={`${id}-error`}
        />
        <p id={`${id}-error`} class="field-error" role="alert">
          {error?.message}
        </p>
      </div>
      <button type="submit" class="button primary" aria-disabled={isSending || wait !== undefined}>
        {isSending ? "Logging in …" : wait === undefined ? "Log in" : `Try again in ${wait}`}
      </button>
    </form>
  )
}
