package android;

import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;

/** Marks a member that Android does not have: tests alone call it. Every other member is declared as in android.jar. */
@Retention(RetentionPolicy.RUNTIME)
public @interface StandIn {}
