// What the samples in docs/sdk/android.md take for granted of the app around them.
@file:Suppress("UNUSED_PARAMETER")

import android.content.Context

fun installationId(context: Context): String = context.filesDir.name

fun notify(tag: String, title: String?, text: String?) {}
