/** Something that keeps a call from happening; its message is a sentence for the caller. */
export class CallFailure extends Error {}
