import java.io.File;
import java.io.IOException;
import java.lang.annotation.Annotation;
import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.Field;
import java.lang.reflect.Member;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Holds the stand-ins of Android's classes to Android's own: {@code java Compare.java STAND_INS ANDROID_JAR} with a folder
 * of classes and an SDK's android.jar. Prints each member that is declared in another way, and then ends with code 1.
 */
public class Compare {
    private static final int DECLARED = Modifier.PUBLIC | Modifier.PROTECTED | Modifier.STATIC | Modifier.FINAL | Modifier.ABSTRACT;
    private static final List<String> wrong = new ArrayList<>();

    public static void main(String[] words) throws IOException, ReflectiveOperationException {
        Path own = Path.of(words[0]);
        URL jar = new File(words[1]).toURI().toURL();
        List<String> absent = new ArrayList<>();
        int compared = 0;
        // What this android.jar lacks is taken from the stand-ins: its other classes name it.
        try (URLClassLoader stand = loader(own.toUri().toURL()); URLClassLoader real = loader(jar, own.toUri().toURL());
                Stream<Path> files = Files.walk(own)) {
            for (Path file : files.filter(one -> one.toString().endsWith(".class")).sorted().collect(Collectors.toList())) {
                String name = own.relativize(file).toString().replace(".class", "").replace(File.separatorChar, '.');
                Class<?> mine = stand.loadClass(name);
                if (!Modifier.isPublic(mine.getModifiers()) && !Modifier.isProtected(mine.getModifiers())) continue;
                if (name.equals("android.StandIn")) continue;
                Class<?> theirs = real.loadClass(name);
                if (theirs.getProtectionDomain().getCodeSource().getLocation().equals(jar)) {
                    compare(mine, theirs);
                    compared++;
                } else {
                    absent.add(name);
                }
            }
        }
        for (String one : wrong) System.out.println(one);
        System.out.println(compared + " classes are compared; not in " + words[1] + ": " + absent);
        if (!wrong.isEmpty()) System.exit(1);
    }

    private static URLClassLoader loader(URL... from) {
        return new URLClassLoader(from, ClassLoader.getPlatformClassLoader());
    }

    private static void compare(Class<?> mine, Class<?> theirs) {
        if (mine.getModifiers() != theirs.getModifiers()) wrong.add(mine.toGenericString() + " is " + theirs.toGenericString());
        TreeSet<String> above = new TreeSet<>();
        ancestors(theirs, above);
        TreeSet<String> wanted = new TreeSet<>();
        ancestors(mine, wanted);
        if (!above.containsAll(wanted)) wrong.add(mine + " descends from " + wanted + ", not " + above);
        for (Constructor<?> one : mine.getDeclaredConstructors()) {
            if (isDeclared(one, one.getAnnotations())) found(said(one), Arrays.stream(theirs.getDeclaredConstructors()).map(Compare::said));
        }
        for (Method one : mine.getDeclaredMethods()) {
            if (isDeclared(one, one.getAnnotations()) && !one.isSynthetic() && !isOverride(one)) found(said(one), methods(theirs));
        }
        for (Field one : mine.getDeclaredFields()) {
            if (isDeclared(one, one.getAnnotations())) found(said(one), Arrays.stream(theirs.getFields()).map(Compare::said));
        }
    }

    /** Of a method that an ancestor of the stand-in declares: there it is compared. */
    private static boolean isOverride(Method method) {
        for (Class<?> above = method.getDeclaringClass().getSuperclass(); above != null; above = above.getSuperclass()) {
            for (Method one : above.getDeclaredMethods()) {
                if (one.getName().equals(method.getName()) && Arrays.equals(one.getParameterTypes(), method.getParameterTypes())
                        && one.getReturnType() == method.getReturnType()) return true;
            }
        }
        return false;
    }

    private static Stream<String> methods(Class<?> theirs) {
        List<String> found = new ArrayList<>();
        for (Class<?> one = theirs; one != null; one = one.getSuperclass()) {
            Arrays.stream(one.getDeclaredMethods()).map(Compare::said).forEach(found::add);
        }
        return found.stream();
    }

    private static void found(String wanted, Stream<String> there) {
        List<String> all = there.collect(Collectors.toList());
        if (all.contains(wanted)) return;
        String name = wanted.replaceAll("\\(.*", "").replaceAll(".* ", "");
        wrong.add(wanted + ": there are " + all.stream().filter(one -> one.contains(" " + name)).sorted(Comparator.naturalOrder()).collect(Collectors.toList()));
    }

    private static boolean isDeclared(Member member, Annotation[] marks) {
        if (Arrays.stream(marks).anyMatch(one -> one.annotationType().getSimpleName().equals("StandIn"))) return false;
        return Modifier.isPublic(member.getModifiers()) || Modifier.isProtected(member.getModifiers());
    }

    private static void ancestors(Class<?> type, TreeSet<String> into) {
        if (type == null) return;
        into.add(type.getName());
        ancestors(type.getSuperclass(), into);
        for (Class<?> one : type.getInterfaces()) ancestors(one, into);
    }

    /** A member as it is declared, types erased, without its class; constants with their values. */
    private static String said(Executable one) {
        String deprecated = one.isAnnotationPresent(Deprecated.class) ? "@Deprecated " : "";
        String type = one instanceof Method ? ((Method) one).getReturnType().getTypeName() + " " : "";
        String name = one instanceof Method ? one.getName() : "new";
        String thrown = Arrays.stream(one.getExceptionTypes()).map(Class::getName).sorted().collect(Collectors.joining(","));
        return deprecated + Modifier.toString(one.getModifiers() & DECLARED) + " " + type + name
                + "(" + Arrays.stream(one.getParameterTypes()).map(Class::getTypeName).collect(Collectors.joining(", ")) + ")" + (thrown.isEmpty() ? "" : " throws " + thrown);
    }

    private static String said(Field one) {
        Object value = "";
        try {
            if (Modifier.isStatic(one.getModifiers()) && (one.getType().isPrimitive() || one.getType() == String.class)) value = one.get(null);
        } catch (ReflectiveOperationException | LinkageError hidden) {
            value = "";
        }
        return Modifier.toString(one.getModifiers() & DECLARED) + " " + one.getType().getTypeName() + " " + one.getName() + " " + value;
    }
}
